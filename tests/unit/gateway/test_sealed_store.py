import logging

import pytest

from gateway.adapters.memory_store import MemoryStore
from gateway.cache.sealed_store import SealedStore

KEY, OTHER_KEY = b"k" * 32, b"o" * 32


async def raw(store: MemoryStore, name: str) -> bytes:
    value = await store.get(name)
    assert value is not None
    return value


class Rejections:
    count = 0

    def __call__(self) -> None:
        self.count += 1


async def test_what_was_sealed_is_read_by_those_with_the_key() -> None:
    store = MemoryStore(10)
    await SealedStore(store, KEY).put("a", b"payload", 60)
    assert await SealedStore(store, KEY).get("a") == b"payload"
    assert await SealedStore(store, KEY).get("b") is None


async def test_every_flipped_byte_is_a_miss() -> None:
    store, rejected = MemoryStore(10), Rejections()
    sealed = SealedStore(store, KEY, rejected)
    await sealed.put("a", b"payload", 60)
    value = await raw(store, "a")
    for index in range(len(value)):
        await store.put("a", value[:index] + bytes([value[index] ^ 1]) + value[index + 1 :], 60)
        assert await sealed.get("a") is None
    assert rejected.count == len(value)


@pytest.mark.parametrize("cut", [0, 1, 31, 32])
async def test_a_value_cut_short_is_a_miss(cut: int) -> None:
    store, rejected = MemoryStore(10), Rejections()
    sealed = SealedStore(store, KEY, rejected)
    await sealed.put("a", b"payload", 60)
    await store.put("a", (await raw(store, "a"))[:cut], 60)
    assert await sealed.get("a") is None and rejected.count == 1


async def test_another_names_value_is_a_miss() -> None:
    store, rejected = MemoryStore(10), Rejections()
    sealed = SealedStore(store, KEY, rejected)
    await sealed.put("a", b"payload", 60)
    await store.put("b", await raw(store, "a"), 60)
    assert await sealed.get("b") is None and rejected.count == 1


async def test_a_value_of_another_secret_or_of_none_is_a_miss() -> None:
    store, rejected = MemoryStore(10), Rejections()
    sealed = SealedStore(store, KEY, rejected)
    await SealedStore(store, OTHER_KEY).put("a", b"payload", 60)
    await store.put("b", b"payload written by hand, longer than a MAC", 60)
    assert await sealed.get("a") is None and await sealed.get("b") is None and rejected.count == 2


async def test_a_swap_compares_payloads_and_an_add_is_sealed() -> None:
    sealed = SealedStore(MemoryStore(10), KEY)
    assert await sealed.add("a", b"old", 60) and not await sealed.add("a", b"new", 60)
    assert not await sealed.swap("a", b"other", b"new", 60)
    assert await sealed.swap("a", b"old", b"new", 60) and await sealed.get("a") == b"new"
    assert await sealed.swap("a", b"new", None) and await sealed.get("a") is None
    await sealed.put("a", b"x", 60)
    await sealed.remove("a")
    assert await sealed.get("a") is None


async def test_a_burst_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    store = MemoryStore(10)
    sealed = SealedStore(store, KEY, clock=lambda: now)
    await store.put("a", b"not sealed", 60)
    with caplog.at_level(logging.WARNING):
        for _ in range(100):
            await sealed.get("a")
        now = 61.0
        await sealed.get("a")
    assert [record.getMessage().split()[0] for record in caplog.records] == ["1", "100"]
