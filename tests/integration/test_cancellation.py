"""A client that leaves, or whose time is up, frees the embedded engine, by its own count of running samples."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from tests.support.engines import RunningEngine
from tests.support.gateway_process import GatewayProcess, text_of
from tests.support.serving import metric

STORY: dict[str, Any] = {
    "model": "champion",
    "messages": [{"role": "user", "content": "Tell me a long story."}],
    "max_tokens": 1500,
    "ignore_eos": True,
}


@pytest.fixture(scope="module")
def gateway(embedded: RunningEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with GatewayProcess(tmp_path_factory.mktemp("gateway"), embedded.url) as running:
        running.wait_for("/readyz", 200)
        yield running
    assert "Traceback" not in running.output, running.output


async def runs(engine: RunningEngine, *, samples: bool) -> None:
    """Wait until the engine runs some samples, or none."""
    async with asyncio.timeout(60):
        while (await asyncio.to_thread(engine.running) > 0) is not samples:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("effort", ["low", "high"], ids=["single", "vote"])
async def test_a_client_that_leaves(
    gateway: GatewayProcess, embedded: RunningEngine, effort: str, stream: bool
) -> None:
    await runs(embedded, samples=False)
    async with aiohttp.ClientSession() as client:
        body = STORY | {"reasoning_effort": effort, "stream": stream}
        reading = asyncio.create_task(_read(client, gateway, body))
        await runs(embedded, samples=True)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    await runs(embedded, samples=False)
    async with asyncio.timeout(10):
        while metric(text_of(f"{gateway.url}/metrics"), "thinktwice_inflight_requests") > 0:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("effort", ["low", "high"], ids=["single", "vote"])
async def test_a_client_whose_time_is_up(gateway: GatewayProcess, embedded: RunningEngine, effort: str) -> None:
    await runs(embedded, samples=False)
    async with aiohttp.ClientSession() as client:
        status, body = await _read(client, gateway, STORY | {"reasoning_effort": effort}, {"X-Request-Timeout": "1.5"})
    assert status == 504 and b"backend_timeout" in body
    await runs(embedded, samples=False)


async def _read(
    client: aiohttp.ClientSession, gateway: GatewayProcess, body: dict[str, Any], headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    async with client.post(f"{gateway.url}/v1/chat/completions", json=body, headers=headers) as response:
        return response.status, await response.read()
