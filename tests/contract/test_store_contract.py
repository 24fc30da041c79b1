"""The store's contract, in memory and on a real Redis server."""

from __future__ import annotations

import asyncio

import pytest

from gateway.adapters.memory_store import MemoryStore
from router.ports import Store


async def test_it_is_alive(store: Store) -> None:
    assert await store.alive()


@pytest.mark.parametrize("value", [b"", b"x", bytes(range(256)), b"word " * 50_000])
async def test_what_was_put_is_got_whole(store: Store, value: bytes) -> None:
    assert await store.get("whole") is None
    await store.put("whole", value, 60)
    assert await store.get("whole") == value


async def test_a_second_put_replaces_the_first(store: Store) -> None:
    await store.put("twice", b"first", 60)
    await store.put("twice", b"second", 60)
    assert await store.get("twice") == b"second"


async def test_a_value_dies_with_its_time_to_live(store: Store) -> None:
    await store.put("short-lived", b"x", 0.2)
    assert await store.add("claimed", b"x", 0.2)
    assert await store.get("short-lived") == await store.get("claimed") == b"x"
    await asyncio.sleep(0.25)
    assert await store.get("short-lived") is None
    assert await store.add("claimed", b"y", 60) and await store.get("claimed") == b"y"


async def test_only_one_of_many_adds_is_the_first(store: Store) -> None:
    added = await asyncio.gather(*(store.add("race", str(number).encode(), 60) for number in range(50)))
    assert sum(added) == 1
    assert await store.get("race") == str(added.index(True)).encode()


async def test_a_swap_is_for_those_who_know_the_value(store: Store) -> None:
    assert not await store.swap("swapped", b"old", b"new", 60)
    await store.put("swapped", b"old", 60)
    assert not await store.swap("swapped", b"other", b"new", 60)
    assert await store.get("swapped") == b"old"
    assert await store.swap("swapped", b"old", b"new", 0.2)
    assert await store.get("swapped") == b"new"
    assert not await store.swap("swapped", b"old", None)
    await asyncio.sleep(0.25)
    assert await store.get("swapped") is None  # the swap's own time to live
    await store.put("swapped", b"new", 60)
    assert await store.swap("swapped", b"new", None)
    assert await store.get("swapped") is None


async def test_what_was_removed_is_gone(store: Store) -> None:
    await store.put("removed", b"x", 60)
    await store.remove("removed")
    await store.remove("removed")
    assert await store.get("removed") is None


async def test_many_callers_each_get_their_own(store: Store) -> None:
    values = {f"many-{number}": str(number).encode() for number in range(200)}
    await asyncio.gather(*(store.put(name, value, 60) for name, value in values.items()))
    assert await asyncio.gather(*(store.get(name) for name in values)) == list(values.values())


async def test_the_memory_store_keeps_the_values_used_last() -> None:
    store = MemoryStore(entries=2)
    await store.put("a", b"a", 60)
    await store.put("b", b"b", 60)
    assert await store.get("a") == b"a"
    await store.put("c", b"c", 60)
    assert [await store.get(name) for name in "abc"] == [b"a", None, b"c"]


async def test_the_memory_store_is_bounded_in_bytes() -> None:
    store = MemoryStore(entries=100, max_bytes=10)
    for name in "abc":
        await store.put(name, b"1234", 60)
    assert [await store.get(name) for name in "abc"] == [None, b"1234", b"1234"]
    await store.put("b", b"123456", 60)
    assert [await store.get(name) for name in "bc"] == [b"123456", b"1234"]
    await store.remove("c")
    await store.put("d", b"1234", 60)
    assert await store.get("b") == b"123456"
    await store.put("huge", b"x" * 11, 60)
    assert await store.get("huge") is None
