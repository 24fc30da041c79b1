"""Streams and stops of a real gateway: who leaves early frees the engine, who is being served is served to the end."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from router.log.groups import read_groups, segments
from router.log.segments import OPEN, SEALED
from tests.support.asgi import until
from tests.support.gateway_process import GatewayProcess, text_of
from tests.support.mock_engine import Fault, MockEngine, Script
from tests.support.serving import metric

CANCELLED = 'thinktwice_requests_total{{code_class="4xx",outcome="cancelled",route="none",stream="{}"}}'
SCRIPTS = {
    "stall": Script(("half and half",), fault=Fault.STALL),
    "slow": Script(("It is \\boxed{4}",), delay_s=0.4),
    "flood": Script(("half and half",), fault=Fault.STALL, padding=12_000_000),
}
SUM = {"checks": [{"type": "numeric", "reference": 4}]}


@pytest.fixture(scope="module")
def engine() -> Iterator[MockEngine]:
    with MockEngine(SCRIPTS) as engine:
        yield engine


@pytest.fixture(scope="module")
def gateway(engine: MockEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    env = {"THINKTWICE_SERVER__KEEPALIVE_S": "0.1"}
    with GatewayProcess(tmp_path_factory.mktemp("streams"), engine.url, env=env) as gateway:
        yield gateway
        assert gateway.stop() == 0
    assert "Traceback" not in gateway.output, gateway.output


def ask(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "champion", "messages": [{"role": "user", "content": text}], **fields}


def metric_of(gateway: GatewayProcess, sample: str) -> float:
    return metric(text_of(f"{gateway.url}/metrics"), sample)


@pytest.mark.parametrize(
    ("stream", "fields"),
    [
        (True, {}),
        (False, {}),
        (True, {"reasoning_effort": "high"}),
        (False, {"reasoning_effort": "high"}),
        (True, {"verification": SUM}),
        (False, {"verification": SUM}),
    ],
)
async def test_a_client_that_leaves_frees_the_engine(
    gateway: GatewayProcess, engine: MockEngine, stream: bool, fields: dict[str, Any]
) -> None:
    counted = CANCELLED.format(str(stream).lower())
    before, groups = metric_of(gateway, counted), len(gateway.groups())
    async with aiohttp.ClientSession() as client:
        request = client.post(f"{gateway.url}/v1/chat/completions", json=ask("stall", stream=stream, **fields))
        asking = asyncio.create_task(_read(request))
        await until(lambda: engine.running > 0)
        if stream:
            await until(lambda: metric_of(gateway, "thinktwice_inflight_requests") == 1)
            await asyncio.sleep(0.3)  # tokens or keep-alives are on their way
        asking.cancel()
    left = time.monotonic()
    await until(lambda: engine.running == 0)
    assert time.monotonic() - left < 2.0
    await until(lambda: metric_of(gateway, "thinktwice_inflight_requests") == 0)
    assert metric_of(gateway, counted) == before + 1 and len(gateway.groups()) == groups


async def _read(request: Any) -> bytes:
    async with request as response:
        data: bytes = await response.read()
        return data


async def test_a_reader_that_does_not_read_is_noticed_when_it_leaves(
    gateway: GatewayProcess, engine: MockEngine
) -> None:
    """The gateway is held up in sending: the samples are freed all the same."""
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=1024)
    body = json.dumps(ask("flood", stream=True)).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await until(lambda: engine.running == 1)
    await asyncio.sleep(0.5)
    writer.transport.abort()
    await until(lambda: engine.running == 0)
    await until(lambda: metric_of(gateway, "thinktwice_inflight_requests") == 0)


async def test_a_voted_stream_is_kept_alive_by_comments(gateway: GatewayProcess) -> None:
    async with aiohttp.ClientSession() as client:
        request = client.post(
            f"{gateway.url}/v1/chat/completions",
            json=ask("slow", stream=True, reasoning_effort="high", verification=SUM),
        )
        async with request as response:
            headers, received = response.headers, (await response.read()).decode()
    assert headers["Content-Type"].startswith("text/event-stream") and headers["X-Thinktwice-Route"] == "vote"
    comments, _, events = received.partition("data: ")
    assert comments.count(": keep-alive\n\n") >= 3 and ": keep-alive" not in events
    *_, last = [json.loads(line[6:]) for line in received.splitlines() if line.startswith("data: {")]
    assert last["verification"]["group_id"] == headers["X-Thinktwice-Group-Id"]
    assert last["verification"]["status"] == "verified" and received.endswith("data: [DONE]\n\n")


async def test_a_stop_drains_what_runs_and_seals_the_log(tmp_path: Path, engine: MockEngine) -> None:
    with GatewayProcess(tmp_path, engine.url, env={"THINKTWICE_SERVER__KEEPALIVE_S": "0.1"}) as gateway:
        async with aiohttp.ClientSession() as client:
            bodies = [ask(f"slow {number}", stream=stream) for number, stream in enumerate((False, True))]
            bodies.append(ask("slow vote", reasoning_effort="high", stream=True))
            asking = [
                asyncio.create_task(_read(client.post(f"{gateway.url}/v1/chat/completions", json=body)))
                for body in bodies
            ]
            await until(lambda: engine.running == len(bodies) + 1)  # the vote draws two
            stopping = asyncio.create_task(asyncio.to_thread(gateway.stop))
            received = await asyncio.gather(*asking)
            assert await stopping == 0
    assert json.loads(received[0])["choices"][0]["message"]["content"] == "It is \\boxed{4}"
    assert received[1].endswith(b"data: [DONE]\n\n") and b'"verification"' in received[1]
    assert received[2].endswith(b"data: [DONE]\n\n") and b'"verification"' in received[2]
    assert segments(tmp_path / "log", OPEN) == [] and len(segments(tmp_path / "log", SEALED)) == 1
    assert len(list(read_groups(tmp_path / "log"))) == 3
    assert "Traceback" not in gateway.output, gateway.output


async def test_what_outlives_the_drain_is_cut_off_without_a_traceback(tmp_path: Path, engine: MockEngine) -> None:
    with GatewayProcess(tmp_path, engine.url, env={"THINKTWICE_SERVER__DRAIN_S": "0.5"}) as gateway:
        async with aiohttp.ClientSession() as client:
            bodies = [ask("stall", stream=True), ask("stall", reasoning_effort="high")]
            asking = [
                asyncio.create_task(_read(client.post(f"{gateway.url}/v1/chat/completions", json=body)))
                for body in bodies
            ]
            await until(lambda: engine.running == len(bodies) + 1)  # the vote draws two
            assert await asyncio.to_thread(gateway.stop) == 0
            streamed, whole = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(streamed, bytes) and streamed.endswith(b"data: [DONE]\n\n")
    assert json.loads(streamed.split(b"data: ")[-2])["error"]["code"] == "stopping"
    assert isinstance(whole, bytes) and json.loads(whole)["error"]["code"] == "stopping"
    await until(lambda: engine.running == 0)
    assert "Traceback" not in gateway.output, gateway.output
