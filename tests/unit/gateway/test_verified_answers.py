from pathlib import Path

import pytest

from gateway.adapters.memory_store import MemoryStore
from gateway.answer import Answer
from gateway.cache.sealed_store import SealedStore
from router.record_codec import encode
from tests.support.builders import check_spec
from tests.support.groups import answer
from tests.support.serving import EASY, Serving, call, serving

RIGHT = check_spec("right")


async def ask(gateway: Serving) -> Answer:
    return await gateway.service.answer(await gateway.service.prepare(call(EASY, RIGHT)))


class Notebook(MemoryStore):
    """A store that remembers the answers that were put, and for how long."""

    def __init__(self) -> None:
        super().__init__(100)
        self.puts: list[tuple[str, bytes, float]] = []

    async def put(self, name: str, value: bytes, ttl_s: float) -> None:
        if not name.endswith(":turn"):
            self.puts.append((name, value, ttl_s))
        await super().put(name, value, ttl_s)


@pytest.fixture
def store() -> Notebook:
    return Notebook()


async def stored_name(gateway: Serving, store: Notebook) -> str:
    """The name under which the question's answer was stored."""
    assert not (await ask(gateway)).verification.cached
    [(name, _, _)] = store.puts
    return name


@pytest.mark.parametrize("garbage", [b"", b"garbage", b"P", b"Zgarbage", b"P\x81\xa1a\x01", b"x" * 500])
async def test_garbage_is_a_miss_and_is_replaced(tmp_path: Path, store: Notebook, garbage: bytes) -> None:
    gateway = serving(tmp_path, "right", store=store)
    name = await stored_name(gateway, store)
    for value in (garbage, store.puts[0][1][:32] + garbage):
        await store.put(name, value, 60)
        assert not (await ask(gateway)).verification.cached
        assert (await ask(gateway)).verification.cached
    assert gateway.metric("thinktwice_cache_rejected_total") == 2
    assert gateway.metric('thinktwice_cache_lookups_total{result="miss"}') == 3


@pytest.mark.parametrize("payload", [b"", b"P", b"garbage", encode(answer("another question")[1])])
async def test_what_a_holder_of_the_secret_wrote_must_still_be_this_questions_answer(
    tmp_path: Path, store: Notebook, payload: bytes
) -> None:
    gateway = serving(tmp_path, "right", store=store)
    name = await stored_name(gateway, store)
    await SealedStore(store, gateway.deps.seal_key("answers")).put(name, payload, 60)
    assert not (await ask(gateway)).verification.cached
    assert gateway.metric("thinktwice_cache_rejected_total") == 1


async def test_another_installations_answers_are_misses(tmp_path: Path, store: Notebook) -> None:
    await ask(serving(tmp_path, "right", store=store))
    other = serving(tmp_path, "right", store=store, salt=b"t" * 32)
    assert not (await ask(other)).verification.cached
    assert other.metric("thinktwice_cache_rejected_total") == 1


async def test_times_to_live_are_spread_over_a_fifth(tmp_path: Path, store: Notebook) -> None:
    gateway = serving(tmp_path, "right", store=store)
    for number in range(100):
        chat = call(f"What is {number} + 2?", RIGHT)
        await gateway.service.answer(await gateway.service.prepare(chat))
    lives = [ttl_s / gateway.deps.caching.ttl_s for _, _, ttl_s in store.puts]
    assert len(lives) == 100 and 0.9 <= min(lives) < 0.95 and 1.05 < max(lives) <= 1.1
