"""One vote from end to end on a real vLLM: the official SDK, the gateway, the engine, the check, the log."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from gateway.adapters.vllm import VllmBackend
from router.canonical import tool_calls_key
from router.records import GroupRecord
from tests.support.engines import MODEL, VLLM_VERSION, RunningEngine
from tests.support.gateway_process import GatewayProcess

pytestmark = pytest.mark.vllm

QUESTION: Any = [{"role": "user", "content": "What is 2 + 2?"}]
CHECK = {"type": "numeric", "reference": 4}
PLAIN = {"top_k": -1, "min_p": 0}


@pytest.fixture
async def gateway(vllm: RunningEngine, tmp_path: Path) -> AsyncIterator[GatewayProcess]:
    async with VllmBackend(vllm.url) as backend:
        await (
            backend.probe()
        )  # a fresh vLLM takes its time over the first token, and the gateway probes before it listens
    with GatewayProcess(tmp_path / "gateway", vllm.url, env={"THINKTWICE_HELDOUT__SHARE": "0"}) as running:
        yield running


def ask(gateway: GatewayProcess, verification: dict[str, Any], **fields: Any) -> Any:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="unused", max_retries=0) as client:
        extra = {"verification": verification, **fields.pop("extra", {})}
        return client.chat.completions.create(model="champion", messages=QUESTION, extra_body=extra, **fields)


def logged(gateway: GatewayProcess) -> GroupRecord:
    """The only group of the log, once the gateway has written and sealed it."""
    assert gateway.stop() == 0, gateway.output
    (group,) = gateway.groups()
    return group


def finished(vllm: RunningEngine) -> int:
    """Requests that vLLM has seen to their end, the aborted ones left out."""
    with urllib.request.urlopen(f"{vllm.url}/metrics", timeout=30) as response:
        lines = response.read().decode().splitlines()
    ended = (line for line in lines if line.startswith("vllm:request_success_total{"))
    return sum(int(float(line.rsplit(" ", 1)[1])) for line in ended if "abort" not in line)


def test_a_vote_is_answered_and_every_sample_can_train(gateway: GatewayProcess, vllm: RunningEngine) -> None:
    completion = ask(
        gateway, {"samples": {"min": 3, "max": 3}, "checks": [CHECK]},
        temperature=1.0, top_p=1.0, seed=8, max_tokens=64, extra=PLAIN,
    )  # fmt: skip
    said = completion.model_extra["verification"]
    assert (said["route"], said["samples"], said["cached"]) == ("vote", 3, False)
    assert [check["type"] for check in said["checks"]] == ["numeric"]
    group = logged(gateway)
    assert (group.group_id, group.base_model, group.engine) == (said["group_id"], MODEL, "vllm")
    assert (group.engine_version, group.logprobs_mode) == (VLLM_VERSION, "processed_logprobs")
    assert group.template_fingerprint and group.prompt_token_ids
    assert len(group.prompt_token_ids) == completion.usage.prompt_tokens
    assert sum(len(sample.completion_token_ids or ()) for sample in group.samples) == completion.usage.completion_tokens
    assert len({sample.completion_token_ids for sample in group.samples}) == 3
    for sample in group.samples:
        assert (sample.rl_eligible, sample.ineligible_reason, sample.censored) == (True, None, False)
        assert len(sample.behavior_logprobs or ()) == len(sample.completion_token_ids or ()) > 0
    passed = [sample for sample in group.samples if [check.outcome for check in sample.checks] == ["pass"]]
    assert (said["status"] == "verified") == (said["stopped"] == "decisive") == bool(passed)
    (selected,) = [sample for sample in group.samples if sample.selected]
    assert completion.choices[0].message.content == selected.message["content"]
    assert not passed or selected in passed
    command = [sys.executable, "-m", "router", "log", "stats", "--json", "--dir", str(gateway.log_dir)]
    stats = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    assert (stats["groups"], stats["rl_eligible_samples"], stats["ineligible_samples"]) == (1, 3, {})
    assert (stats["trainable_groups"], stats["problems"]) == (1, [])


def test_the_first_pass_cancels_its_companion_upstream(gateway: GatewayProcess, vllm: RunningEngine) -> None:
    """At temperature 0 the first sample answers right in 12 tokens. With this seed the second one is a long story."""
    before = finished(vllm)
    completion = ask(gateway, {"checks": [CHECK]}, temperature=0.0, seed=7, max_tokens=1024, reasoning_effort="high")
    said = completion.model_extra["verification"]
    assert (said["status"], said["reason"], said["route"]) == ("verified", "decisive_pass", "vote")
    assert (said["stopped"], said["samples"]) == ("decisive", 1)  # of two: the other never ended
    assert [check["outcome"] for check in said["checks"]] == ["pass"]
    deadline = time.monotonic() + 5
    while vllm.running() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert (vllm.running(), finished(vllm) - before) == (0, 1)
    winner, loser = logged(gateway).samples
    assert (winner.selected, winner.finish_reason, winner.ineligible_reason) == (True, "stop", "sampling")
    assert (loser.censored, loser.finish_reason, loser.ineligible_reason) == (True, None, "censored")
    assert loser.completion_token_ids and loser.checks == ()


def test_tool_calls_vote_by_value(gateway: GatewayProcess) -> None:
    """A named tool, since the model calls none by itself; so close to temperature 0 all samples say the same."""
    city = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tool: Any = {"type": "function", "function": {"name": "weather", "parameters": city}}
    named: Any = {"type": "function", "function": {"name": "weather"}}
    completion = ask(
        gateway, {"samples": {"min": 3, "max": 3}},
        tools=[tool], tool_choice=named, temperature=0.01, seed=2, max_tokens=64,
    )  # fmt: skip
    said, [choice] = completion.model_extra["verification"], completion.choices
    group = logged(gateway)
    assert (said["route"], said["samples"], said["votes"], said["status"]) == ("vote", 3, 3, "consensus"), group.samples
    [call] = choice.message.tool_calls
    assert choice.message.content is None and call.function.name == "weather"
    assert {sample.answer_key for sample in group.samples} == {tool_calls_key([call.model_dump()])}
    assert {sample.ineligible_reason for sample in group.samples} <= {"sampling", "constrained"}
