"""The answer cache over HTTP: several processes, one Redis, and what happens when one of them dies or stands still."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.gateway_process import GatewayProcess, get, text_of
from tests.support.mock_engine import MockEngine, Script
from tests.support.redis_server import RedisServer
from tests.support.serving import metric

CHECKED = {"verification": {"checks": [{"type": "numeric", "reference": 4}]}}


def gateway_of(
    home: Path, engine: MockEngine, redis: RedisServer, workers: int = 1, lock_s: float = 10.0
) -> GatewayProcess:
    """A gateway whose state directory is `home`'s, so that several of them share a secret."""
    env = {
        "THINKTWICE_REDIS__URL": redis.url,
        "THINKTWICE_REDIS__LOCK_S": str(lock_s),
        "THINKTWICE_STATE__DIR": str(home / "shared"),
    }
    args = ("--workers", str(workers))
    return GatewayProcess(home / f"gateway-{time.monotonic_ns()}", engine.url, env=env, args=args)


async def ask(client: aiohttp.ClientSession, gateway: GatewayProcess, text: str) -> tuple[int, dict[str, Any]]:
    body = {"model": "champion", "messages": [{"role": "user", "content": text}], **CHECKED}
    async with client.post(f"{gateway.url}/v1/chat/completions", json=body) as response:
        return response.status, await response.json()


async def test_two_workers_and_64_clients_cost_a_few_computations_at_most(tmp_path: Path, redis: RedisServer) -> None:
    scripts = {"at once": Script(("It is \\boxed{4}",), delay_s=1.0)}
    with MockEngine(scripts) as engine, gateway_of(tmp_path, engine, redis, workers=2) as gateway:
        await asyncio.to_thread(gateway.wait_for, "/readyz", 200)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
            answers = await asyncio.gather(*(ask(client, gateway, "at once") for _ in range(64)))
        assert {status for status, _ in answers} == {200}
        assert {answer["verification"]["status"] for _, answer in answers} == {"verified"}
        assert 1 <= len(engine.chats("at once")) <= 2
        assert sum(not answer["verification"]["cached"] for _, answer in answers) == len(engine.chats("at once"))


async def test_a_gateway_killed_while_it_computes_does_not_block_the_other(tmp_path: Path, redis: RedisServer) -> None:
    lock_s = 2.0
    with ExitStack() as stack:
        engine = stack.enter_context(MockEngine({"slow": Script(("It is \\boxed{4}",), delay_s=60)}))
        doomed = stack.enter_context(gateway_of(tmp_path, engine, redis, lock_s=lock_s))
        other = stack.enter_context(gateway_of(tmp_path, engine, redis, lock_s=lock_s))
        async with aiohttp.ClientSession() as client:
            lost = asyncio.create_task(ask(client, doomed, "slow"))
            while not engine.chats("slow"):
                await asyncio.sleep(0.02)
            doomed.kill()
            with pytest.raises(aiohttp.ClientError):
                await lost
            engine.scripts["slow"] = Script(("It is \\boxed{4}",))
            started = time.monotonic()
            status, answer = await ask(client, other, "slow")
            assert (status, answer["verification"]["status"]) == (200, "verified")
            assert not answer["verification"]["cached"] and time.monotonic() - started < lock_s + 3


async def test_a_redis_that_stands_still_is_left_alone_and_asked_again(tmp_path: Path, redis: RedisServer) -> None:
    state = 'thinktwice_cache_breaker_state{state="%s"}'
    with MockEngine() as engine, gateway_of(tmp_path, engine, redis) as gateway:
        async with aiohttp.ClientSession() as client:
            assert not (await ask(client, gateway, "two and two"))[1]["verification"]["cached"]
            assert (await ask(client, gateway, "two and two"))[1]["verification"]["cached"]
            redis.pause()
            seen = []
            while metric(text_of(f"{gateway.url}/metrics"), state % "open") != 1:
                status, answer = await ask(client, gateway, "two and two")
                seen.append((status, answer["verification"]["status"], answer["verification"]["cached"]))
            assert set(seen) == {(200, "verified", False)}
            await asyncio.sleep(1.5)  # a look of the watcher
            assert get(f"{gateway.url}/readyz") == (200, {"ready": True, "degraded": ["redis"], "backend": True})
            errors = metric(text_of(f"{gateway.url}/metrics"), 'thinktwice_cache_lookups_total{result="error"}')
            assert errors > 0
            redis.resume()
            await asyncio.to_thread(_until_whole, gateway)
            assert (await ask(client, gateway, "two and two"))[1]["verification"]["cached"]
            assert metric(text_of(f"{gateway.url}/metrics"), state % "closed") == 1
    assert gateway.output.count("Redis fails: serving without it") >= 1
    assert gateway.output.count("Redis answers again") == 1 and "Traceback" not in gateway.output
    assert len(gateway.output.splitlines()) < 60  # nothing a request


def _until_whole(gateway: GatewayProcess) -> None:
    deadline = time.monotonic() + 20
    while get(f"{gateway.url}/readyz")[1]["degraded"]:
        assert time.monotonic() < deadline, gateway.output
        time.sleep(0.1)


def test_the_secret_is_for_its_owner_alone(tmp_path: Path, redis: RedisServer) -> None:
    with MockEngine() as engine, gateway_of(tmp_path, engine, redis):
        assert (tmp_path / "shared" / "heldout_salt").stat().st_mode & 0o077 == 0
