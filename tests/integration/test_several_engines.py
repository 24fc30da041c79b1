"""Several engines behind one gateway: one of them dies under load, comes back, or is not like the others."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import aiohttp

from gateway.local.children import free_port
from tests.support.gateway_process import GatewayProcess, get, text_of
from tests.support.mock_engine import MockEngine, Script
from tests.support.serving import metric

SCRIPT = Script(("the answer is \\boxed{4}",), delay_s=0.02)


def ask(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "champion", "messages": [{"role": "user", "content": text}], **fields}


async def post(client: aiohttp.ClientSession, gateway: GatewayProcess, body: dict[str, Any]) -> tuple[int, Any]:
    async with client.post(f"{gateway.url}/v1/chat/completions", json=body) as response:
        return response.status, await response.json()


async def ready(gateway: GatewayProcess, degraded: list[str]) -> None:
    async with asyncio.timeout(30):
        while get(f"{gateway.url}/readyz") != (200, {"ready": True, "degraded": degraded, "backend": True}):
            await asyncio.sleep(0.05)


async def test_an_engine_that_dies_under_load_costs_no_request(tmp_path: Path) -> None:
    """Single samples and votes, some of whose draws had begun: none fails, and each group is logged once."""
    port = free_port()
    answered: list[str] = []

    async def load(client: aiohttp.ClientSession, gateway: GatewayProcess, name: str, rounds: int) -> None:
        async def one(seed: int) -> None:
            for turn in range(rounds):
                effort = "high" if turn % 3 == 0 else "low"
                status, answer = await post(client, gateway, ask(f"{name} {seed} {turn}", reasoning_effort=effort))
                assert status == 200, answer
                answered.append(answer["verification"]["group_id"])

        await asyncio.gather(*(one(seed) for seed in range(16)))

    async with AsyncExitStack() as closing:
        stack = closing.enter_context(ExitStack())
        stays = stack.enter_context(MockEngine(default=SCRIPT))
        leaves = MockEngine(default=SCRIPT, port=port)
        with leaves:
            gateway = stack.enter_context(GatewayProcess(tmp_path, f"{stays.url},http://127.0.0.1:{port}"))
            client = await closing.enter_async_context(aiohttp.ClientSession())
            await ready(gateway, [])
            await load(client, gateway, "both", 3)
            assert stays.chats("both") and leaves.chats("both")
            during = asyncio.create_task(load(client, gateway, "one", 8))
            await asyncio.sleep(0.3)
        await during
        await ready(gateway, ["backend"])
        page = text_of(f"{gateway.url}/metrics")
        assert metric(page, 'thinktwice_engine_replicas{state="down"}') == 1
        assert metric(page, "thinktwice_engine_failovers_total") >= 1
        with MockEngine(default=SCRIPT, port=port) as back:
            await ready(gateway, [])
            await load(client, gateway, "again", 3)
            assert back.chats("again") and stays.chats("again")
        assert gateway.stop() == 0 and "Traceback" not in gateway.output
    logged = [group.group_id for group in gateway.groups()]
    assert sorted(logged) == sorted(answered) and len(set(logged)) == 16 * 14


async def test_an_engine_of_another_model_is_refused(tmp_path: Path) -> None:
    with MockEngine() as first, MockEngine(model="another", port=free_port()) as second:
        with GatewayProcess(tmp_path, f"{first.url},{second.url}") as gateway:
            await ready(gateway, ["backend"])
            model = get(f"{gateway.url}/v1/models")[1]["data"][0]["id"]
            used, unused = (first, second) if model == first.model else (second, first)
            async with aiohttp.ClientSession() as client:
                for number in range(8):
                    assert (await post(client, gateway, ask(f"question {number}")))[0] == 200
        assert len(used.chats("question")) >= 8 and unused.chats("question") == []
        assert f"its model is {unused.model}, not {used.model}" in gateway.output
