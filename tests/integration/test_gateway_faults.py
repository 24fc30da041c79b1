"""What the gateway needs goes away and comes back: the engine, Redis, the disk, the gateway itself."""

from __future__ import annotations

import asyncio
import resource
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.local.children import free_port
from tests.support.gateway_process import GatewayProcess, get, text_of
from tests.support.mock_engine import MODEL, Fault, MockEngine, Script
from tests.support.redis_server import RedisServer
from tests.support.serving import metric

SYNC = {"THINKTWICE_LOG__MODE": "sync"}
SUM = {"checks": [{"type": "numeric", "reference": 4}]}


def ask(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "champion", "messages": [{"role": "user", "content": text}], **fields}


async def post(client: aiohttp.ClientSession, gateway: GatewayProcess, body: dict[str, Any]) -> tuple[int, Any, Any]:
    """Status, JSON and headers of a chat request."""
    async with client.post(f"{gateway.url}/v1/chat/completions", json=body) as response:
        return response.status, await response.json(), response.headers


async def until(gateway: GatewayProcess, path: str, status: int) -> dict[str, Any]:
    return await asyncio.to_thread(gateway.wait_for, path, status)


@contextmanager
def clean(gateway: GatewayProcess) -> Iterator[GatewayProcess]:
    """A gateway that must stop with 0 and never print a traceback."""
    with gateway:
        yield gateway
        assert gateway.stop() == 0, gateway.output
    assert "Traceback" not in gateway.output, gateway.output


async def test_an_engine_that_comes_goes_and_comes_again(tmp_path: Path) -> None:
    port = free_port()
    async with aiohttp.ClientSession() as client:
        with clean(GatewayProcess(tmp_path, f"http://127.0.0.1:{port}")) as gateway:
            assert get(f"{gateway.url}/readyz") == (503, {"ready": False, "degraded": [], "backend": False})
            status, refusal, headers = await post(client, gateway, ask("hello"))
            assert (status, refusal["error"]["code"]) == (503, "backend_unavailable") and "Retry-After" in headers
            assert get(f"{gateway.url}/v1/models")[0] == 503
            for _ in range(2):
                with MockEngine(port=port):
                    assert (await until(gateway, "/readyz", 200))["ready"]
                    assert (await post(client, gateway, ask("hello")))[0] == 200
                assert (await post(client, gateway, ask("hello", stream=True)))[0] == 503
                assert not (await until(gateway, "/readyz", 503))["ready"]
            assert metric(text_of(f"{gateway.url}/metrics"), "thinktwice_engine_up") == 0
    assert len(gateway.groups()) == 2


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [(Fault.REFUSE, 400, 400), (Fault.CRASH, 502, "backend_protocol_error"), (Fault.STALL, 504, "backend_timeout"),
     (Fault.UNFINISHED, 502, "backend_protocol_error"), (Fault.CUT, 503, "backend_unavailable")],
)  # fmt: skip
async def test_an_engine_that_fails(
    faulty: tuple[GatewayProcess, MockEngine], fault: Fault, status: int, code: Any
) -> None:
    gateway, _ = faulty
    async with aiohttp.ClientSession() as client:
        answered, refusal, _ = await post(client, gateway, ask(f"{fault} please"))
        assert (answered, refusal["error"]["code"]) == (status, code)
        answered, refusal, _ = await post(client, gateway, ask(f"{fault} please", reasoning_effort="high"))
        assert answered >= 400 and refusal["error"]["message"]
    assert gateway.groups() == []


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GatewayProcess, MockEngine]]:
    scripts = {f"{fault} please": Script(("half and half",), fault=fault) for fault in Fault}
    env = {"THINKTWICE_SERVER__DEADLINE_S": "1"}
    with MockEngine(scripts) as engine:
        with clean(GatewayProcess(tmp_path_factory.mktemp("faulty"), engine.url, env=env)) as gateway:
            yield gateway, engine
        assert engine.running == 0


async def test_an_engine_that_stalls_its_probe_does_not_hold_the_gateway_up(tmp_path: Path) -> None:
    with MockEngine(default=Script(("x",), fault=Fault.STALL)) as engine:
        with clean(GatewayProcess(tmp_path, engine.url)) as gateway:
            assert get(f"{gateway.url}/readyz")[0] == 503
        gateway.launch()
        while not gateway.log_dir.joinpath("w0").exists() or engine.running == 0:
            await asyncio.sleep(0.05)
        assert gateway.stop() == 0 and "Traceback" not in gateway.output  # stopped while it was starting


async def test_a_redis_that_refuses(tmp_path: Path) -> None:
    with MockEngine() as engine:
        env = {"THINKTWICE_REDIS__URL": f"redis://127.0.0.1:{free_port()}/0"}
        with clean(GatewayProcess(tmp_path, engine.url, env=env)) as gateway:
            assert get(f"{gateway.url}/readyz") == (200, {"ready": True, "degraded": ["redis"], "backend": True})
            async with aiohttp.ClientSession() as client:
                for _ in range(2):
                    status, answer, _ = await post(client, gateway, ask("two and two", verification=SUM))
                    assert status == 200 and answer["verification"]["status"] == "verified"
                    assert not answer["verification"]["cached"]


async def test_a_redis_killed_and_restarted_under_load(tmp_path: Path) -> None:
    """64 clients at once: every answer is right, none fails, and hits resume by themselves."""
    redis = RedisServer()
    redis.start()
    scripts = {f"question {number}:": Script((f"It is \\boxed{{{number}}}",)) for number in range(40)}
    outcomes: list[tuple[int, str, bool]] = []
    cached: list[bool] = []

    async def load(client: aiohttp.ClientSession, gateway: GatewayProcess, rounds: int) -> None:
        async def one(seed: int) -> None:
            for turn in range(rounds):
                number = (seed * 7 + turn) % 40
                check = {"checks": [{"type": "numeric", "reference": number}]}
                status, answer, _ = await post(client, gateway, ask(f"question {number}: what?", verification=check))
                text = answer["choices"][0]["message"]["content"]
                outcomes.append((status, answer["verification"]["status"], text == f"It is \\boxed{{{number}}}"))
                cached.append(answer["verification"]["cached"])

        await asyncio.gather(*(one(seed) for seed in range(64)))

    with ExitStack() as stack:
        engine = stack.enter_context(MockEngine(scripts))
        stack.callback(redis.stop)
        gateway = stack.enter_context(
            clean(GatewayProcess(tmp_path, engine.url, env={"THINKTWICE_REDIS__URL": redis.url}))
        )
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
            await load(client, gateway, 3)
            assert any(cached)
            during = asyncio.create_task(load(client, gateway, 6))
            await asyncio.sleep(0.3)
            redis.kill()
            await during
            redis.start()
            while get(f"{gateway.url}/readyz")[1]["degraded"]:
                await asyncio.sleep(0.05)
            async with asyncio.timeout(60):  # a put or a get may meet the cache's own deadline and cost one hit
                while not all(cached):
                    cached.clear()
                    await load(client, gateway, 1)
    assert set(outcomes) == {(200, "verified", True)} and len(outcomes) >= 64 * 10
    assert len(gateway.groups()) == len({group.group_id for group in gateway.groups()})


def test_a_log_directory_that_is_read_only(tmp_path: Path) -> None:
    target = tmp_path / "log"
    target.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=64k", "tmpfs", target], check=False)
    if mounted.returncode != 0:
        pytest.skip("mounting is not allowed here")
    try:
        gateway = GatewayProcess(tmp_path, "http://127.0.0.1:9")
        gateway.launch()
        assert gateway.ended() == 2 and "Traceback" not in gateway.output
        assert "Read-only file system: set [log] dir" in gateway.output
    finally:
        subprocess.run(["umount", target], check=True)


async def test_a_disk_that_is_full_and_then_is_not(tmp_path: Path) -> None:
    """The kernel refuses the log's writes for a while. In `sync` mode nothing answered may be missing from the log."""
    answered: set[str] = set()
    with MockEngine(default=Script(("a long story " * 100,))) as engine:
        async with aiohttp.ClientSession() as client:
            with clean(GatewayProcess(tmp_path, engine.url, env=SYNC)) as gateway:

                async def some(count: int) -> list[int]:
                    statuses = []
                    for status, answer, _ in await asyncio.gather(
                        *(post(client, gateway, ask(f"story {number}")) for number in range(count))
                    ):
                        statuses.append(status)
                        if status == 200:
                            answered.add(answer["verification"]["group_id"])
                        else:
                            assert (status, answer["error"]["code"]) == (503, "log_unavailable")
                    return statuses

                assert set(await some(5)) == {200}
                resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
                hurt = asyncio.create_task(some(2))  # admitted before the log knows; they wait for the disk
                while "log" not in get(f"{gateway.url}/readyz")[1]["degraded"]:
                    await asyncio.sleep(0.05)
                drawn = len(engine.chats("story"))
                status, refusal, headers = await post(client, gateway, ask("story"))
                assert (status, refusal["error"]["code"]) == (503, "log_unavailable")
                assert headers["x-should-retry"] == "false" and len(engine.chats("story")) == drawn
                resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
                assert await hurt == [200, 200]
                while get(f"{gateway.url}/readyz")[1]["degraded"]:
                    await asyncio.sleep(0.05)
                assert set(await some(5)) == {200}
    logged = [group.group_id for group in gateway.groups()]
    assert set(logged) == answered and len(logged) == 12


async def test_killed_outright_nothing_answered_is_lost(tmp_path: Path) -> None:
    answered: set[str] = set()
    with MockEngine() as engine:
        gateway = GatewayProcess(tmp_path, engine.url, env=SYNC)
        async with aiohttp.ClientSession() as client:

            async def keep_asking(seed: int) -> None:
                with suppress(aiohttp.ClientError, ConnectionError):
                    for turn in range(500):
                        status, answer, _ = await post(client, gateway, ask(f"{seed} {turn}"))
                        assert status == 200
                        answered.add(answer["verification"]["group_id"])

            gateway.start()
            asking = asyncio.gather(*(keep_asking(seed) for seed in range(8)))
            while len(answered) < 100:
                await asyncio.sleep(0.01)
            gateway.kill()
            await asking
        with clean(gateway):
            await until(gateway, "/readyz", 200)
    assert len(answered) >= 100
    logged = [group.group_id for group in gateway.groups()]
    assert answered <= set(logged) and len(logged) == len(set(logged))
    assert {group.base_model for group in gateway.groups()} == {MODEL}
