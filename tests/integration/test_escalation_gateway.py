"""A second engine with a larger model: it may solve what the first one did not, and it may fail."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.local.children import free_port
from tests.support.gateway_process import GatewayProcess, get, text_of
from tests.support.mock_engine import MODEL, MockEngine
from tests.support.mock_script import Fault, Script
from tests.support.serving import metric

BIG = "big-model"
CHECK = {"checks": [{"type": "numeric", "reference": 4}]}
WRONG, RIGHT = Script(("It is \\boxed{5}",)), Script(("It is \\boxed{4}",))
CONFIG = f"""
[prices."{MODEL}"]
input = 1.0
output = 2.0
[prices."{BIG}"]
input = 10.0
output = 20.0
[escalation]
model = "{BIG}"
api_key = "second"
"""


@pytest.fixture
def first() -> Iterator[MockEngine]:
    with MockEngine(default=WRONG, scripts={"easy": RIGHT}) as engine:
        yield engine


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def gateway(home: Path, first: MockEngine, url: str) -> GatewayProcess:
    return GatewayProcess(home, first.url, CONFIG + f'url = "{url}"\n', {"THINKTWICE_BACKEND__API_KEY": "first"})


def question(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "champion", "messages": [{"role": "user", "content": text}], "verification": CHECK, **fields}


async def ready(gateway: GatewayProcess, degraded: list[str]) -> None:
    async with asyncio.timeout(30):
        while get(f"{gateway.url}/readyz") != (200, {"ready": True, "degraded": degraded, "backend": True}):
            await asyncio.sleep(0.05)


async def test_the_larger_model_solves_what_the_first_did_not(
    tmp_path: Path, first: MockEngine, client: aiohttp.ClientSession
) -> None:
    with MockEngine(default=RIGHT, model=BIG) as second, gateway(tmp_path, first, second.url) as serving:
        await ready(serving, [])
        url = f"{serving.url}/v1/chat/completions"
        async with client.post(url, json=question("What is 2 + 2?", max_tokens=40)) as response:
            answer, headers = await response.json(), response.headers
        found = answer["verification"]
        assert (found["status"], found["route"], found["escalated"], found["policy"]) == ("verified", "vote", True, BIG)
        assert (found["samples"], found["stopped"], answer["model"]) == (6, "decisive", "champion")
        assert (headers["X-Thinktwice-Policy"], headers["X-Thinktwice-Samples"]) == (BIG, "6")
        async with client.post(url, json=question("What is 3 + 1?", stream=True)) as response:
            events = [json.loads(line[6:]) async for line in response.content if line.startswith(b"data: {")]
        assert events[-1]["verification"]["policy"] == BIG and not any("error" in event for event in events)
        async with client.post(url, json=question("an easy one")) as response:
            assert (await response.json())["verification"]["policy"] == MODEL
        [asked] = second.chats("2 + 2")
        assert (asked["model"], asked["max_tokens"], asked["n"], asked["return_token_ids"]) == (BIG, 40, 1, True)
        assert asked["cache_salt"] == first.chats("2 + 2")[0]["cache_salt"]
        assert {each["authorization"] for each in second.headers} == {"Bearer second"}
        assert {each["authorization"] for each in first.headers} == {"Bearer first"}
        page = text_of(f"{serving.url}/metrics")
        assert metric(page, 'thinktwice_escalated_samples_total{result="verified"}') == 2
        assert metric(page, f'thinktwice_tokens_total{{model="{BIG}",purpose="prod",type="output"}}') > 0
        assert serving.stop() == 0 and "Traceback" not in serving.output
    group = next(each for each in serving.groups() if each.group_id == found["group_id"])
    own = sum(len(each.completion_token_ids or ()) for each in group.samples[:5])
    last, prompt = group.samples[5], answer["usage"]["prompt_tokens"]
    assert (last.policy, last.ineligible_reason, group.policy) == (BIG, "other_policy", MODEL)
    assert answer["usage"]["completion_tokens"] == own + len(last.completion_token_ids or ())
    big_prompt = len(last.prompt_token_ids or ())
    cost = (prompt - big_prompt) * 1.0 + own * 2.0 + big_prompt * 10.0 + len(last.completion_token_ids or ()) * 20.0
    assert found["cost_usd"] == pytest.approx(cost / 1e6)


async def test_its_engine_may_be_down_broken_or_slow(
    tmp_path: Path, first: MockEngine, client: aiohttp.ClientSession
) -> None:
    port = free_port()
    scripts = {"crash": Script(("",), fault=Fault.CRASH), "cut": Script(("It is",), fault=Fault.CUT)}
    with gateway(tmp_path, first, f"http://127.0.0.1:{port}") as serving:
        url = f"{serving.url}/v1/chat/completions"

        async def failed(text: str) -> None:
            async with client.post(url, json=question(text)) as response:
                found = (await response.json())["verification"]
            assert (response.status, found["status"], found["samples"]) == (200, "failed", 5)
            assert (found["stopped"], found["policy"]) == ("cap", MODEL)

        await ready(serving, ["escalation"])
        await failed("while it is down")
        with MockEngine(default=RIGHT, scripts=scripts, model=BIG, port=port) as second:
            await ready(serving, [])
            for text in ("crash", "cut"):
                await failed(text)
                assert second.chats(text)
            async with client.post(url, json=question("and up")) as response:
                assert (await response.json())["verification"]["policy"] == BIG
        await ready(serving, ["escalation"])
        assert metric(text_of(f"{serving.url}/metrics"), 'thinktwice_escalated_samples_total{result="error"}') == 2
        assert serving.stop() == 0 and "Traceback" not in serving.output


async def test_a_client_that_leaves_cancels_it(
    tmp_path: Path, first: MockEngine, client: aiohttp.ClientSession
) -> None:
    stalled = {"leave": Script(("It is",), fault=Fault.STALL)}
    with MockEngine(scripts=stalled, model=BIG) as second, gateway(tmp_path, first, second.url) as serving:
        await ready(serving, [])
        asking = asyncio.create_task(client.post(f"{serving.url}/v1/chat/completions", json=question("leave")))
        async with asyncio.timeout(10):
            while not (second.running and second.chats("leave")):
                await asyncio.sleep(0.02)
            asking.cancel()
            while second.running:
                await asyncio.sleep(0.02)
        assert second.cancelled == 1
