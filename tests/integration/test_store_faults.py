"""A Redis that dies, hangs or answers late never gives a wrong answer and never holds a request up."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import pytest

from gateway.adapters.redis_store import RedisStore
from gateway.resilience.breaker import Breaker, BreakerState
from router.errors import CacheUnavailable, ConfigError
from tests.support.redis_server import RedisServer

TIMEOUT_S = 0.5
SLACK_S = 2.0  # for a busy machine


@pytest.fixture
def server() -> Iterator[RedisServer]:
    server = RedisServer()
    server.start()
    yield server
    server.stop()


PROBE_S = 0.1  # of the breaker, so that it closes soon


@pytest.fixture
async def store(server: RedisServer) -> AsyncIterator[RedisStore]:
    store = RedisStore(server.url, timeout_s=TIMEOUT_S, breaker=Breaker(probe_s=PROBE_S), connections=8)
    yield store
    await store.close()


async def test_killed_and_restarted_under_load_it_recovers_by_itself(server: RedisServer, store: RedisStore) -> None:
    stored = {f"load-{i}": str(i).encode() for i in range(20)}
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
                    await store.put(key, stored[key], 60)
                    outcome = "put"
                else:
                    found = await store.get(key)
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


async def test_a_server_that_hangs_costs_one_timeout(server: RedisServer, store: RedisStore) -> None:
    key, stored = "hang", b"stored"
    await store.put(key, stored, 60)
    server.command("CLIENT", "PAUSE", "1500", "ALL")
    started = time.perf_counter()
    results = await asyncio.gather(*(store.get(key) for _ in range(50)), return_exceptions=True)
    assert time.perf_counter() - started < TIMEOUT_S + SLACK_S
    assert all(isinstance(result, CacheUnavailable) for result in results)
    await asyncio.sleep(1.5)
    assert await store.get(key) == stored


async def opened(store: RedisStore, count: int = 5) -> None:
    """Fail until the breaker opens."""
    results = await asyncio.gather(*(store.get("x") for _ in range(count)), return_exceptions=True)
    assert all(isinstance(result, CacheUnavailable) for result in results)


async def test_a_stopped_server_opens_the_breaker_and_costs_nothing_from_then_on(server: RedisServer) -> None:
    """SIGSTOP: connections stay open and nothing answers, as from a machine that swaps."""
    seen: list[BreakerState] = []
    store = RedisStore(server.url, timeout_s=TIMEOUT_S, breaker=Breaker(probe_s=0.5, on_change=seen.append))
    await store.put("x", b"stored", 60)
    server.pause()
    await opened(store)
    assert seen == [BreakerState.OPEN]
    started = time.perf_counter()
    for _ in range(100):
        with pytest.raises(CacheUnavailable, match="not asked"):
            await store.get("x")
    assert time.perf_counter() - started < TIMEOUT_S and not await store.alive()
    await asyncio.sleep(0.5)
    results = await asyncio.gather(*(store.get("x") for _ in range(10)), return_exceptions=True)
    assert sum("not asked" not in str(result) for result in results) == 1  # the one probe, which timed out
    server.resume()
    await asyncio.sleep(0.5)
    assert await store.get("x") == b"stored"
    assert seen == [BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.OPEN, *seen[1:2], BreakerState.CLOSED]
    assert await asyncio.gather(*(store.get("x") for _ in range(20))) == [b"stored"] * 20
    await store.close()


async def test_waiting_for_a_connection_counts(server: RedisServer) -> None:
    """One connection, taken by a command that hangs: the others fail without ever reaching the server."""
    breaker = Breaker()
    store = RedisStore(server.url, timeout_s=TIMEOUT_S, breaker=breaker, connections=1)
    await store.put("x", b"stored", 60)
    server.pause()
    await opened(store)
    assert breaker.state is BreakerState.OPEN
    server.resume()
    await store.close()


async def test_a_server_that_is_gone_opens_the_breaker(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    breaker = Breaker()
    store = RedisStore(server.url, timeout_s=TIMEOUT_S, breaker=breaker)
    server.kill()
    await opened(store)
    assert breaker.state is BreakerState.OPEN
    await opened(store, 1000)
    assert not caplog.records  # nothing a request, and no traceback
    await store.close()


async def test_a_probe_whose_caller_left_does_not_keep_it_open(server: RedisServer) -> None:
    store = RedisStore(server.url, timeout_s=TIMEOUT_S, breaker=Breaker(probe_s=PROBE_S))
    server.pause()
    await opened(store)
    await asyncio.sleep(PROBE_S)
    probe = asyncio.create_task(store.get("x"))
    await asyncio.sleep(0)
    probe.cancel()
    server.resume()
    await asyncio.sleep(PROBE_S)
    assert await store.alive() and await store.get("x") is None
    await store.close()


async def test_cancelled_callers_never_leave_their_reply_to_another(server: RedisServer) -> None:
    store = RedisStore(server.url, timeout_s=5.0, connections=8)  # on a busy machine as well
    stored = {f"cancel-{i}": str(i).encode() for i in range(30)}
    for key, value in stored.items():
        await store.put(key, value, 60)
    draw = random.Random(7)
    keys = list(stored)
    for _ in range(150):
        wanted = [draw.choice(keys) for _ in range(12)]
        tasks = [asyncio.create_task(store.get(key)) for key in wanted]
        await asyncio.sleep(draw.random() * 0.002)
        for task in tasks[::2]:
            task.cancel()
        for key, result in zip(wanted, await asyncio.gather(*tasks, return_exceptions=True), strict=True):
            assert isinstance(result, asyncio.CancelledError) or result == stored[key]
    await store.close()


async def test_late_replies_are_nobodys() -> None:
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
    late = RedisStore(f"redis://127.0.0.1:{port}/0?protocol=2", timeout_s=0.1, connections=1)
    for key in ("one", "two", "three"):
        with pytest.raises(CacheUnavailable):
            await late.get(key)
    await late.close()
    await asyncio.sleep(0.2)  # the server's side ends
    listener.close()


async def test_a_value_of_another_type_is_unavailable(server: RedisServer, store: RedisStore) -> None:
    server.command("LPUSH", "list", "x")
    for _ in range(20):  # the server answers: no reason to stop asking it
        with pytest.raises(CacheUnavailable, match="WRONGTYPE"):
            await store.get("list")
    assert await store.alive()


async def test_a_server_that_refuses_is_unavailable(server: RedisServer) -> None:
    server.command("CONFIG", "SET", "requirepass", "secret")
    refused = RedisStore(server.url, timeout_s=TIMEOUT_S)
    with pytest.raises(CacheUnavailable, match=r"(?i)auth"):
        await refused.get("refused")
    assert not await refused.alive()
    await refused.close()
    admitted = RedisStore(server.url.replace("//", "//:secret@"), timeout_s=5.0)
    assert await admitted.alive()
    await admitted.close()


async def test_a_full_server_is_unavailable_for_writing_only(server: RedisServer, store: RedisStore) -> None:
    key, stored = "full", b"stored"
    await store.put(key, stored, 60)
    server.command("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(CacheUnavailable, match=r"(?i)maxmemory|OOM"):
        await store.put(key, stored, 60)
    assert await store.get(key) == stored


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "unix:///nonexistent/redis.sock"])
async def test_nothing_at_the_address_is_unavailable_at_once(url: str) -> None:
    store = RedisStore(url, timeout_s=TIMEOUT_S)
    started = time.perf_counter()
    with pytest.raises(CacheUnavailable):
        await store.get("nobody")
    assert time.perf_counter() - started < TIMEOUT_S + SLACK_S
    await store.close()


@pytest.mark.parametrize("url", ["http://user:hunter2@host", "redis://host:notaport", "", "redis://host/0?timeout=x"])
def test_an_address_that_is_no_redis_url_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigError, match=r"\[redis\] url") as caught:
        RedisStore(url, timeout_s=TIMEOUT_S)
    assert "hunter2" not in str(caught.value)
