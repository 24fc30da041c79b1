"""A stop under load: what was taken is answered and logged, what was not is told to come again."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from router.log.groups import read_groups
from tests.support.gateway_process import GatewayProcess, get
from tests.support.mock_engine import MockEngine, Script

CLIENTS = 32


def ask(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "champion", "messages": [{"role": "user", "content": text}], **fields}


async def group_of(response: aiohttp.ClientResponse, stream: bool) -> str:
    """The group of an answer that came whole."""
    body = await response.read()
    if not stream:
        return str(json.loads(body)["verification"]["group_id"])
    assert body.endswith(b"data: [DONE]\n\n"), body
    chunks = [json.loads(line[6:]) for line in body.splitlines() if line.startswith(b"data: {")]
    assert not any("error" in chunk for chunk in chunks), chunks
    return str(next(chunk["verification"]["group_id"] for chunk in chunks if "verification" in chunk))


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_stop_under_load_loses_no_group(tmp_path: Path, workers: int) -> None:
    answered: list[str] = []
    refused = 0

    async def keep_asking(client: aiohttp.ClientSession, url: str, seed: int) -> None:
        """Until the gateway says that it stops, or no longer listens. Nothing else may go wrong."""
        nonlocal refused
        stream, effort = seed % 2 == 0, "high" if seed % 4 < 2 else "low"
        for turn in range(1000):
            body = ask(f"{seed} {turn}", stream=stream, reasoning_effort=effort)
            try:
                async with client.post(f"{url}/v1/chat/completions", json=body) as response:
                    if response.status == 200:
                        answered.append(await group_of(response, stream))
                        continue
                    error = await response.json()
                    assert (response.status, error["error"]["code"]) == (503, "stopping")
                    assert int(response.headers["Retry-After"]) > 0
                    refused += 1
            except aiohttp.ClientOSError:  # also a kept connection, closed before the request was written on it
                refused += 1
            return
        raise AssertionError("the gateway was not stopped")

    with MockEngine(default=Script(("the answer is \\boxed{4}",), delay_s=0.05)) as engine:
        gateway = GatewayProcess(tmp_path, engine.url, args=("--workers", str(workers)))
        with gateway:
            await asyncio.to_thread(gateway.wait_for, "/readyz", 200)
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
                asking = asyncio.gather(*(keep_asking(client, gateway.url, seed) for seed in range(CLIENTS)))
                while len(answered) < 3 * CLIENTS:
                    await asyncio.sleep(0.01)
                assert await asyncio.to_thread(gateway.stop) == 0, gateway.output
                await asking
        assert engine.running == 0
    assert refused == CLIENTS and "Traceback" not in gateway.output, gateway.output
    sealed = [record.group_id for _, record in read_groups(gateway.log_dir)]
    assert sorted(sealed) == sorted(answered)


async def test_while_it_drains_it_says_so_and_takes_nothing_new(tmp_path: Path) -> None:
    with MockEngine(default=Script(("done",), delay_s=2.0)) as engine, GatewayProcess(tmp_path, engine.url) as gateway:
        await asyncio.to_thread(gateway.wait_for, "/readyz", 200)
        async with aiohttp.ClientSession() as client:
            running = asyncio.create_task(_post(client, gateway))
            while engine.running == 0:
                await asyncio.sleep(0.01)
            for _ in range(2):  # a terminal and a parent may both pass a stop on
                gateway.signal(signal.SIGTERM)
            while (probe := get(f"{gateway.url}/readyz"))[0] == 200:
                await asyncio.sleep(0.01)
            assert probe == (503, {"ready": False, "degraded": ["stopping"], "backend": True})
            assert await _post(client, gateway) == (503, "stopping")
            assert await running == (200, None)
        assert await asyncio.to_thread(gateway.ended) == 0


async def _post(client: aiohttp.ClientSession, gateway: GatewayProcess) -> tuple[int, str | None]:
    async with client.post(f"{gateway.url}/v1/chat/completions", json=ask("hello")) as response:
        return response.status, (await response.json()).get("error", {}).get("code")
