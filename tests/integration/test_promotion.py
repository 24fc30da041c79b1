"""Promotion and rollback under constant load: nothing fails, every answer is of one policy, and the cache turns over.

The real commands, the real gateway; the engine is a double, the embedded one, or (`make test-vllm`) vLLM.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaForCausalLM

from router.enums import Purpose
from router.registry import PolicyRegistry
from tests.support.engines import EngineKind, RunningEngine
from tests.support.gateway_process import GatewayProcess, get
from tests.support.mock_engine import MODEL, MockEngine
from tests.support.mock_script import Script

ANYTHING = {"checks": [{"type": "regex", "pattern": "(?s).*"}]}  # passes whatever the model says
CLIENTS = 6
SETTLED_S = 30.0  # an overloaded machine's bound; docs/policies.md has what was measured


@dataclass(frozen=True, slots=True)
class Stage:
    """An engine, the name of its model, and the folder of an adapter that fits it."""

    engine_url: str
    base: str
    adapter: Path


@pytest.fixture(params=["mock", EngineKind.EMBEDDED, pytest.param(EngineKind.VLLM, marks=pytest.mark.vllm)])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    adapter = tmp_path / "adapter"
    if request.param == "mock":
        adapter.mkdir()
        (adapter / "adapter_config.json").write_text('{"peft_type": "LORA"}')
        with MockEngine() as engine:
            yield Stage(engine.url, MODEL, adapter)
        return
    running = request.getfixturevalue(request.param)
    assert isinstance(running, RunningEngine)
    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(LlamaForCausalLM.from_pretrained(running.folder), config).save_pretrained(str(adapter))
    yield Stage(running.url, get(f"{running.url}/v1/models")[1]["data"][0]["id"], adapter)


def flip(gateway: GatewayProcess, *command: str) -> dict[str, Any]:
    """Run `thinktwice promote|rollback` on the gateway's state, as an operator would."""
    env = {**os.environ, "THINKTWICE_STATE__DIR": str(gateway.home / "state")}
    full = [sys.executable, "-m", "router", *command, "--json", "--config", str(gateway.home / "thinktwice.toml")]
    done = subprocess.run(full, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@dataclass(slots=True)
class Load:
    """Clients that ask one thing after another until told to stop. `answers`: when each began, and its policy."""

    gateway: GatewayProcess
    answers: list[tuple[float, str]] = field(default_factory=list)
    stopping: bool = False
    _numbers: Iterator[int] = field(default_factory=count)

    async def ask(self, client: aiohttp.ClientSession, text: str) -> dict[str, Any]:
        """One answer, which must be whole, and of the policy that its header names."""
        body = {
            "model": "champion",
            "messages": [{"role": "user", "content": text}],
            "max_tokens": 4,
            "verification": ANYTHING | {"samples": {"min": 2, "max": 2}},
        }
        async with client.post(f"{self.gateway.url}/v1/chat/completions", json=body) as response:
            answer: dict[str, Any] = await response.json()
            assert response.status == 200, answer
            verification: dict[str, Any] = answer["verification"]
            assert response.headers["X-Thinktwice-Policy"] == verification["policy"]
            return verification

    async def run(self, client: aiohttp.ClientSession) -> None:
        """Load until `stopping`."""

        async def one() -> None:
            while not self.stopping:
                began = time.monotonic()
                verification = await self.ask(client, f"Question {next(self._numbers)}")
                self.answers.append((began, verification["policy"]))

        await asyncio.gather(*(one() for _ in range(CLIENTS)))

    async def until_served_by(self, policy: str, since: float) -> None:
        """Wait until an answer to a request that began after `since` is of `policy`."""
        async with asyncio.timeout(SETTLED_S):
            while not any(began > since and served == policy for began, served in self.answers):
                await asyncio.sleep(0.02)


@asynccontextmanager
async def loaded(gateway: GatewayProcess) -> AsyncIterator[tuple[Load, aiohttp.ClientSession]]:
    load = Load(gateway)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
        running = asyncio.create_task(load.run(client))
        try:
            yield load, client
        finally:
            load.stopping = True
            await running


# peft 0.21 asks transformers 5.23 for an attribute under its old name.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
async def test_promotion_and_rollback_under_load(stage: Stage, tmp_path: Path) -> None:
    with GatewayProcess(tmp_path / "gateway", stage.engine_url) as gateway:
        gateway.wait_for("/readyz", 200)
        candidate = PolicyRegistry(gateway.home / "state").register(stage.adapter, {"base_model": stage.base})
        async with loaded(gateway) as (load, client):
            same = "The same question, again and again"
            assert not (await load.ask(client, same))["cached"]
            assert (await load.ask(client, same))["cached"]
            await load.until_served_by(stage.base, since=0.0)
            for command, epoch, policy in (
                (("promote", candidate, "--url", gateway.url), 1, candidate),
                (("rollback", "--reason", "a test"), 2, stage.base),
            ):
                flipped = await asyncio.to_thread(flip, gateway, *command)
                champion = None if policy == stage.base else policy
                assert flipped == {"champion": champion, "epoch": epoch, "canary": None}
                await load.until_served_by(policy, since=time.monotonic())
                fresh = await load.ask(client, same)
                assert (fresh["cached"], fresh["policy"]) == (False, policy)
                again = await load.ask(client, same)
                assert (again["cached"], again["policy"]) == (True, policy)
        assert {policy for _, policy in load.answers} == {stage.base, candidate}
        assert gateway.stop() == 0
    groups = [group for group in gateway.groups() if group.purpose is Purpose.PROD]  # without the promotion's trial
    assert len(groups) == len(load.answers) + 3  # each turn's one fresh answer to the same question
    assert all({sample.policy for sample in group.samples} == {group.policy} for group in groups)
    assert "Traceback" not in gateway.output, gateway.output


def test_a_policy_the_engine_refuses_is_not_promoted(tmp_path: Path) -> None:
    with MockEngine(refuses_adapters=True) as engine, GatewayProcess(tmp_path / "gateway", engine.url) as gateway:
        gateway.wait_for("/readyz", 200)
        (tmp_path / "adapter").mkdir()
        (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
        registry = PolicyRegistry(gateway.home / "state")
        name = registry.register(tmp_path / "adapter", {})
        with pytest.raises(AssertionError, match=f"the engine cannot load {name}"):
            flip(gateway, "promote", name, "--url", gateway.url)
        assert registry.champion().policy is None
        # Promoted untried, it keeps the gateway on its last champion, and the gateway says so.
        assert flip(gateway, "promote", name, "--untried")["champion"] == name
        for _ in range(200):
            ready = get(f"{gateway.url}/readyz")[1]
            if ready["degraded"]:
                break
            time.sleep(0.05)
        assert ready == {"ready": True, "degraded": ["policy"], "backend": True}
        assert f"the engine cannot load {name}" in gateway.output
        assert flip(gateway, "rollback")["champion"] is None
        gateway.stop()


async def test_a_canary_that_does_harm_is_withdrawn_by_the_gateways(tmp_path: Path) -> None:
    """Two serving processes, a canary of a quarter of the requests that solves nothing, a champion that solves all."""
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    with MockEngine() as engine, GatewayProcess(tmp_path / "gateway", engine.url, args=["--workers", "2"]) as gateway:
        gateway.wait_for("/readyz", 200)
        registry = PolicyRegistry(gateway.home / "state")
        canary = registry.register(adapter, {"base_model": MODEL})
        engine.of_model[canary] = Script(("The answer is \\boxed{5}.",))
        tried = await asyncio.to_thread(flip, gateway, "promote", canary, "--share", "0.25", "--url", gateway.url)
        assert tried == {"champion": None, "epoch": 1, "canary": {"policy": canary, "share": 0.25}}
        served: Counter[tuple[str, str]] = Counter()

        async def one(client: aiohttp.ClientSession, number: int) -> None:
            body = {
                "model": "champion",
                "messages": [{"role": "user", "content": f"What is 2 + 2, for the time {number}?"}],
                "verification": {"checks": [{"type": "math", "reference": "4"}], "samples": {"min": 1, "max": 1}},
            }
            async with client.post(f"{gateway.url}/v1/chat/completions", json=body) as response:
                answer = await response.json()
                assert response.status == 200, answer
                served[answer["verification"]["policy"], answer["verification"]["status"]] += 1

        async with aiohttp.ClientSession() as client, asyncio.timeout(SETTLED_S):
            for number in count(step=8):
                await asyncio.gather(*(one(client, number + each) for each in range(8)))
                if registry.champion().canary is None:
                    break
            harmed = served.copy()
            while "it is withdrawn" not in gateway.output:
                await asyncio.sleep(0.05)
        last = registry.history()[-1]
        assert (last.action, last.policy, last.previous, last.actor) == ("withdraw", None, canary, "gateway")
        assert f"{canary} did harm: the champion won" in last.reason
        assert set(harmed) == {(MODEL, "verified"), (canary, "failed")}
        assert 10 < harmed[canary, "failed"] < 0.4 * harmed.total()
        assert gateway.stop() == 0
    assert "Traceback" not in gateway.output, gateway.output


def test_a_promotion_without_a_gateway_or_a_policy(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path, "http://127.0.0.1:9")
    (tmp_path / "thinktwice.toml").write_text("")
    with pytest.raises(AssertionError, match="is not registered"):
        flip(gateway, "promote", "policy-1-deadbeef")
    with pytest.raises(AssertionError, match="nothing to roll back to"):
        flip(gateway, "rollback")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    name = PolicyRegistry(tmp_path / "state").register(tmp_path / "adapter", {})
    with pytest.raises(AssertionError, match="no gateway at"):
        flip(gateway, "promote", name, "--url", "http://127.0.0.1:9")
    assert flip(gateway, "promote", name, "--untried") == {"champion": name, "epoch": 1, "canary": None}
    assert flip(gateway, "promote", "base") == {"champion": None, "epoch": 2, "canary": None}
