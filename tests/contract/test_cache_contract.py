"""The answer cache's contract, on the cache in memory and on a real Redis server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from gateway.adapters.memory_cache import MemoryCache
from gateway.adapters.redis_cache import RedisCache
from router.enums import Status
from router.ports import AnswerCache
from tests.support.groups import answer
from tests.support.redis_server import RedisServer


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    server = RedisServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=["memory", "redis"])
async def cache(request: pytest.FixtureRequest) -> AsyncIterator[MemoryCache | RedisCache]:
    made: MemoryCache | RedisCache
    if request.param == "memory":
        made = MemoryCache(entries=1000, ttl_s=0.3)
    else:
        url = request.getfixturevalue("server").url
        made = RedisCache(url, timeout_s=2.0, ttl_s=0.3)
    yield made
    await made.close()


async def test_it_is_an_answer_cache(cache: AnswerCache) -> None:
    assert await cache.alive()


async def test_what_was_put_is_got_whole(cache: AnswerCache) -> None:
    key, stored = answer("whole", message={"role": "assistant", "content": "Größe 4 €", "tool_calls": [{"id": "t"}]})
    assert await cache.get(key) is None
    await cache.put(key, stored)
    assert await cache.get(key) == stored


async def test_a_long_answer_is_got_whole(cache: AnswerCache) -> None:
    key, stored = answer("long", message={"role": "assistant", "content": "word " * 50_000})
    await cache.put(key, stored)
    assert await cache.get(key) == stored


async def test_a_second_put_replaces_the_first(cache: AnswerCache) -> None:
    key, first = answer("twice")
    _, second = answer("twice", group_id="later")
    await cache.put(key, first)
    await cache.put(key, second)
    assert await cache.get(key) == second


async def test_an_answer_dies_with_its_time_to_live(cache: AnswerCache) -> None:
    key, stored = answer("short-lived")
    await cache.put(key, stored)
    assert await cache.get(key) == stored
    await asyncio.sleep(0.35)  # the 0.3 s of the fixture, and its 10 % of jitter
    assert await cache.get(key) is None


async def test_an_answer_under_another_questions_key_is_a_miss(cache: MemoryCache | RedisCache) -> None:
    key, _ = answer("asked")
    _, other = answer("other")
    await cache.put(key, other)
    assert await cache.get(key) is None
    assert cache.rejected == 1


async def test_many_callers_each_get_their_own(cache: AnswerCache) -> None:
    stored = dict(answer(f"many-{i}") for i in range(200))
    await asyncio.gather(*(cache.put(key, value) for key, value in stored.items()))
    assert await asyncio.gather(*(cache.get(key) for key in stored)) == list(stored.values())


def test_nothing_but_a_verified_answer_can_be_put() -> None:
    with pytest.raises(ValueError, match="only verified"):
        answer("claimed", status=Status.CONSENSUS)


async def test_the_memory_cache_keeps_the_answers_used_last() -> None:
    cache = MemoryCache(entries=2, ttl_s=60)
    stored = [answer(name) for name in ("a", "b", "c")]
    await cache.put(*stored[0])
    await cache.put(*stored[1])
    assert await cache.get(stored[0][0]) is not None
    await cache.put(*stored[2])
    assert [await cache.get(key) is not None for key, _ in stored] == [True, False, True]


async def test_times_to_live_are_spread_over_a_fifth(server: RedisServer) -> None:
    cache = RedisCache(server.url, timeout_s=2.0, ttl_s=1000)
    keys = [answer(f"spread-{i}") for i in range(100)]
    for key, stored in keys:
        await cache.put(key, stored)
    lives = [int(server.command("PTTL", f"tt:v1:{key}")) for key, _ in keys]
    assert 895_000 < min(lives) < 950_000 and 1_050_000 < max(lives) <= 1_100_000
    await cache.close()
