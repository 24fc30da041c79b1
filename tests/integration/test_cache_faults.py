"""A Redis that dies, hangs, answers late or holds garbage never gives a wrong answer and never holds a request up."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import pytest

from gateway.adapters.redis_cache import NAMESPACE, RedisCache
from router.errors import CacheUnavailable, ConfigError
from tests.support.groups import answer
from tests.support.redis_server import RedisServer

TIMEOUT_S = 0.2
SLACK_S = 0.3  # for a busy machine


@pytest.fixture
def server() -> Iterator[RedisServer]:
    server = RedisServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def cache(server: RedisServer) -> AsyncIterator[RedisCache]:
    cache = RedisCache(server.url, timeout_s=TIMEOUT_S, ttl_s=60, connections=8)
    yield cache
    await cache.close()


async def test_killed_and_restarted_under_load_it_recovers_by_itself(server: RedisServer, cache: RedisCache) -> None:
    stored = dict(answer(f"load-{i}") for i in range(20))
    keys = list(stored)
    seen: Counter[str] = Counter()
    slowest = 0.0
    phase = "up"
    stop = asyncio.Event()

    async def client(seed: int) -> None:
        nonlocal slowest
        draw = random.Random(seed)
        while not stop.is_set():
            key = draw.choice(keys)
            started = time.perf_counter()
            try:
                if draw.random() < 0.3:
                    await cache.put(key, stored[key])
                    outcome = "put"
                else:
                    found = await cache.get(key)
                    assert found is None or found == stored[key]
                    outcome = "miss" if found is None else "hit"
            except CacheUnavailable:
                outcome = "unavailable"
            slowest = max(slowest, time.perf_counter() - started)
            seen[f"{phase}:{outcome}"] += 1
            await asyncio.sleep(0.002)

    clients = [asyncio.create_task(client(seed)) for seed in range(16)]
    await asyncio.sleep(0.4)
    phase = "down"
    await asyncio.to_thread(server.kill)
    await asyncio.sleep(0.4)
    await asyncio.to_thread(server.start)
    await asyncio.sleep(0.2)
    phase = "back"
    await asyncio.sleep(0.4)
    stop.set()
    await asyncio.gather(*clients)

    assert seen["up:hit"] > 0 and seen["down:unavailable"] > 0 and seen["back:hit"] > 0
    assert seen["up:unavailable"] == seen["back:unavailable"] == 0
    assert slowest < TIMEOUT_S + SLACK_S


async def test_a_server_that_hangs_costs_one_timeout(server: RedisServer, cache: RedisCache) -> None:
    key, stored = answer("hang")
    await cache.put(key, stored)
    server.command("CLIENT", "PAUSE", "600", "ALL")
    started = time.perf_counter()
    results = await asyncio.gather(*(cache.get(key) for _ in range(50)), return_exceptions=True)
    assert time.perf_counter() - started < TIMEOUT_S + SLACK_S
    assert all(isinstance(result, CacheUnavailable) for result in results)
    await asyncio.sleep(0.6)
    assert await cache.get(key) == stored


async def test_cancelled_callers_never_leave_their_reply_to_another(server: RedisServer, cache: RedisCache) -> None:
    stored = dict(answer(f"cancel-{i}") for i in range(30))
    for key, value in stored.items():
        await cache.put(key, value)
    draw = random.Random(7)
    keys = list(stored)
    for _ in range(150):
        wanted = [draw.choice(keys) for _ in range(12)]
        tasks = [asyncio.create_task(cache.get(key)) for key in wanted]
        await asyncio.sleep(draw.random() * 0.002)
        for task in tasks[::2]:
            task.cancel()
        for key, result in zip(wanted, await asyncio.gather(*tasks, return_exceptions=True), strict=True):
            assert isinstance(result, asyncio.CancelledError) or result == stored[key]
    assert cache.rejected == 0


async def test_late_replies_are_nobodys(cache: RedisCache) -> None:
    """A server that answers after the caller gave up: the answer must not reach the next caller."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            words = [await reader.readline() for _ in range(2 * int(line[1:]))][1::2]
            if words[0].upper().startswith(b"GET"):
                await asyncio.sleep(0.15)
                writer.write(b"$4\r\nlate\r\n")
            else:
                writer.write(b"+OK\r\n")
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    late = RedisCache(f"redis://127.0.0.1:{port}/0?protocol=2", timeout_s=0.1, ttl_s=60, connections=1)
    for key in ("one", "two", "three"):
        with pytest.raises(CacheUnavailable):
            await late.get(key)
    assert late.rejected == 0  # no late reply was taken for an answer
    await late.close()
    await asyncio.sleep(0.2)  # the server's side ends
    listener.close()


@pytest.mark.parametrize("garbage", ["", "garbage", "P", "Zgarbage", "P\x81\xa1a\x01"])
async def test_garbage_is_a_miss_and_is_counted(server: RedisServer, cache: RedisCache, garbage: str) -> None:
    key, stored = answer("garbage")
    server.command("SET", NAMESPACE + key, garbage)
    assert await cache.get(key) is None
    assert cache.rejected == 1
    await cache.put(key, stored)
    assert await cache.get(key) == stored


async def test_a_value_of_another_type_is_unavailable(server: RedisServer, cache: RedisCache) -> None:
    key, _ = answer("list")
    server.command("LPUSH", NAMESPACE + key, "x")
    with pytest.raises(CacheUnavailable, match="WRONGTYPE"):
        await cache.get(key)


async def test_a_server_that_refuses_is_unavailable(server: RedisServer) -> None:
    server.command("CONFIG", "SET", "requirepass", "secret")
    refused = RedisCache(server.url, timeout_s=TIMEOUT_S, ttl_s=60)
    with pytest.raises(CacheUnavailable, match=r"(?i)auth"):
        await refused.get(answer("refused")[0])
    assert not await refused.alive()
    await refused.close()
    admitted = RedisCache(server.url.replace("//", "//:secret@"), timeout_s=TIMEOUT_S, ttl_s=60)
    assert await admitted.alive()
    await admitted.close()


async def test_a_full_server_is_unavailable_for_writing_only(server: RedisServer, cache: RedisCache) -> None:
    key, stored = answer("full")
    await cache.put(key, stored)
    server.command("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(CacheUnavailable, match=r"(?i)maxmemory|OOM"):
        await cache.put(key, stored)
    assert await cache.get(key) == stored


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "unix:///nonexistent/redis.sock"])
async def test_nothing_at_the_address_is_unavailable_at_once(url: str) -> None:
    cache = RedisCache(url, timeout_s=TIMEOUT_S, ttl_s=60)
    started = time.perf_counter()
    with pytest.raises(CacheUnavailable):
        await cache.get(answer("nobody")[0])
    assert time.perf_counter() - started < TIMEOUT_S + SLACK_S
    await cache.close()


@pytest.mark.parametrize("url", ["http://user:hunter2@host", "redis://host:notaport", "", "redis://host/0?timeout=x"])
def test_an_address_that_is_no_redis_url_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigError, match=r"\[redis\] url") as caught:
        RedisCache(url, timeout_s=TIMEOUT_S, ttl_s=60)
    assert "hunter2" not in str(caught.value)
