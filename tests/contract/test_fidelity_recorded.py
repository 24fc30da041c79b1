"""The cases that the default model cannot bring about, on what vLLM's own response code was recorded to answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from openai import OpenAI

from tests.support.engines import VLLM_VERSION
from tests.support.fidelity import CHAT, comparable, exchange, same
from tests.support.gateway_process import GatewayProcess
from tests.support.recorded_engine import RECORDED, RecordedEngine

CHUNK = ["choices", "object", "system_fingerprint"]


@pytest.fixture(scope="module")
def engine() -> Iterator[RecordedEngine]:
    with RecordedEngine() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(engine: RecordedEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with GatewayProcess(tmp_path_factory.mktemp("recorded"), engine.url) as running:
        yield running
        assert running.stop() == 0
    assert "Traceback" not in running.output, running.output


def test_the_recording_is_of_the_version_that_is_run() -> None:
    assert RECORDED["vllm"] == VLLM_VERSION


@pytest.mark.parametrize("recording", RECORDED["recordings"], ids=lambda recording: recording["name"])
def test_every_field_is_handed_through(
    engine: RecordedEngine, gateway: GatewayProcess, recording: dict[str, Any]
) -> None:
    data = json.dumps(recording["body"]).encode()
    theirs, ours = exchange(engine.url, CHAT, data), exchange(gateway.url, CHAT, data)
    differences = same(comparable(theirs), comparable(ours))
    if recording["name"] == "n choices, with reasoning, streamed":
        # vLLM stamps its fingerprint on every choice's end; the gateway learns it from the usage chunk, at the last.
        stamped = f".choices.1.kinds[2][0]: theirs {CHUNK}, ours {CHUNK[:-1]}"
        differences.remove(stamped)
    assert not differences, "\n".join(differences)
    asked_tokens = recording["body"].get("logprobs")
    assert asked_tokens or all(
        choice["delta"] or choice["finish_reason"] for event in ours.events for choice in event.get("choices", ())
    )


def test_the_recording_holds_what_it_is_for(engine: RecordedEngine) -> None:
    """Reasoning, held-back tokens, parallel calls, details of usage and an error are really in it."""
    events = [event for each in RECORDED["recordings"] for event in each["upstream"].get("events", ())]
    deltas = [choice["delta"] for event in events for choice in event.get("choices", ())]
    assert {} in deltas and {"reasoning", "refusal", "content", "tool_calls"} <= {name for d in deltas for name in d}
    assert {call["index"] for delta in deltas for call in delta.get("tool_calls", ())} == {0, 1}
    assert any("error" in event for event in events)
    usage = [event["usage"] for event in events if event.get("usage")]
    assert usage and all({"prompt_tokens_details", "completion_tokens_details"} <= each.keys() for each in usage)


def test_the_official_sdk_reads_reasoning_and_parallel_calls(gateway: GatewayProcess) -> None:
    with OpenAI(base_url=f"{gateway.url}/v1", api_key="unused", max_retries=0) as client:

        def ask(text: str) -> list[Any]:
            sent: Any = [{"role": "user", "content": f"{text}, streamed with usage."}]
            options: Any = {"include_usage": True}
            return list(
                client.chat.completions.create(model="champion", messages=sent, stream=True, stream_options=options)
            )

        thinking = ask("reasoning")
        pieces = [choice.delta for chunk in thinking for choice in chunk.choices]
        assert "".join(piece.model_extra.get("reasoning") or "" for piece in pieces) == "Hm, yes."
        assert thinking[-1].usage.completion_tokens_details.reasoning_tokens == 4
        assert thinking[-1].usage.prompt_tokens_details.cached_tokens == 2
        calls = [
            call for chunk in ask("parallel tool calls") for c in chunk.choices for call in c.delta.tool_calls or ()
        ]
        assert [(call.index, call.id, call.function.name) for call in calls if call.id] == [
            (0, "call-0", "add"),
            (1, "call-1", "sub"),
        ]
