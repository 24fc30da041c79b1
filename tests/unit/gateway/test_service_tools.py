"""A profile with server-side tools, from the request to the log: what is refused, answered, counted and kept."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from openai.types.chat import ChatCompletion

from gateway.bootstrap.checks import check_settings
from router.calculator import Calculator
from router.domain import CheckResult, CheckSpec
from router.enums import Reason, Route, Status, Stopped, ToolName
from router.errors import ConfigError
from router.record_codec import decode_group, encode
from router.settings import ProfileSection, Settings
from tests.support.asgi import Exchange, application, post, request, until
from tests.support.builders import tool_call
from tests.support.fakes import Line, TextVerifier
from tests.support.serving import EASY, OPEN, Serving, serving

SUM = Line("?", "tool_calls", tool_calls=(tool_call('{"expression": "2+2"}', "calculator"),))
PROFILE = {"tools": [ToolName.CALCULATOR], "max_turns": 3}
OWN = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]


class Referee(TextVerifier):
    """Passes a text that holds the check's reference."""

    async def verify(self, checks: Sequence[CheckSpec], text: str) -> tuple[CheckResult, ...]:
        wanted = [replace(check, params={"want": check.params["reference"]}) for check in checks]
        return await super().verify(wanted, text)


def gateway(state: Path, *lines: Line | str) -> Serving:
    return serving(state, *lines, tools={"calculator": Calculator()})


async def ask(serving: Serving, text: str = EASY, *, profile: dict[str, Any] = PROFILE, **fields: Any) -> Exchange:
    body = {"model": "champion", "messages": [{"role": "user", "content": text}], **fields}
    body["verification"] = {"profile": "tooled"} | fields.get("verification", {})
    app = application(serving, tables={"profiles": {"tooled": profile}, "router": {"audit_share": 0}})
    return await post(app, body)


async def test_a_single_sample_takes_its_turns_and_only_its_answer_is_shown(tmp_path: Path) -> None:
    service = gateway(tmp_path, SUM, "It is \\boxed{4}")
    answered = await ask(service, OPEN)
    completion = ChatCompletion.model_validate(answered.json)
    [choice] = completion.choices
    assert (choice.message.content, choice.finish_reason, choice.message.tool_calls) == (
        "It is \\boxed{4}",
        "stop",
        None,
    )
    verdict = answered.json["verification"]
    assert (verdict["route"], verdict["samples"], verdict["stopped"]) == (Route.SINGLE, 1, Stopped.SINGLE)
    assert completion.usage is not None and completion.usage.prompt_tokens == 6
    assert completion.usage.completion_tokens == len("?") + len("It is \\boxed{4}")


async def test_the_record_holds_every_call(tmp_path: Path) -> None:
    service = gateway(tmp_path, SUM, "It is \\boxed{4}")
    await ask(service)
    [record] = service.log.records
    assert decode_group(encode(record)) == record
    [sample] = record.samples
    [turn] = sample.turns
    [call] = turn.calls
    assert (call.name, call.arguments, call.outcome, call.content) == ("calculator", '{"expression": "2+2"}', "ok", "4")
    assert turn.message["tool_calls"][0]["id"] == call.call_id and turn.completion_token_ids == (ord("?"),)
    assert turn.behavior_logprobs == (-0.5,) and sample.prompt_token_ids == (1, 2, 3)
    assert (sample.rl_eligible, sample.ineligible_reason) == (False, "tool_turns")
    assert record.options["tools"][0]["function"]["name"] == "calculator"
    assert (record.verification["tools"], record.verification["max_turns"]) == (["calculator@1"], 3)
    assert record.messages == ({"role": "user", "content": EASY},)
    assert service.metric('thinktwice_grouplog_samples_total{training="tool_turns"}') == 1


async def test_a_sample_that_called_nothing_may_train(tmp_path: Path) -> None:
    service = gateway(tmp_path, "It is \\boxed{4}")
    await ask(service, temperature=1, top_p=1, top_k=-1, min_p=0)
    [sample] = service.log.records[0].samples
    assert sample.rl_eligible and sample.turns == ()


async def test_a_rejected_answer_escalates_to_a_vote_whose_samples_have_the_tools_too(tmp_path: Path) -> None:
    lines = [SUM, "It is \\boxed{5}", SUM, SUM, "It is \\boxed{4}"]
    service = serving(tmp_path, *lines, tools={"calculator": Calculator()}, verifier=Referee())
    checks = {"checks": [{"type": "exact", "reference": "4"}]}
    verdict = (await ask(service, verification=checks)).json["verification"]
    assert (verdict["status"], verdict["route"], verdict["escalated"]) == (Status.VERIFIED, Route.VOTE, True)
    assert [len(sample.turns) for sample in service.log.records[0].samples][:2] == [1, 1]


async def test_no_turn_left_is_unverified_and_truncated(tmp_path: Path) -> None:
    answered = await ask(gateway(tmp_path, SUM))
    [choice] = answered.json["choices"]
    assert (choice["finish_reason"], choice["message"].get("tool_calls")) == ("length", None)
    verdict = answered.json["verification"]
    assert (verdict["status"], verdict["reason"]) == (Status.UNVERIFIED, Reason.TRUNCATED)


async def test_a_stream_waits_for_the_answer_and_shows_no_call(tmp_path: Path) -> None:
    answered = await ask(gateway(tmp_path, SUM, "It is \\boxed{4}"), OPEN, stream=True, reasoning_effort="low")
    deltas = [choice["delta"] for event in answered.events for choice in event["choices"]]
    assert "".join(delta.get("content") or "" for delta in deltas) == "It is \\boxed{4}"
    assert not any(delta.get("tool_calls") for delta in deltas)
    assert answered.events[-1]["verification"]["route"] == Route.SINGLE


async def test_the_task_is_read_in_the_prompt_and_not_in_the_tools(tmp_path: Path) -> None:
    service = gateway(tmp_path, "It is \\boxed{4}")
    verdict = (await ask(service, reasoning_effort="high")).json["verification"]
    assert (verdict["status"], verdict["votes"]) == (Status.CONSENSUS, 3)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": OWN}, "tools"),
        ({"tools": []}, "tools"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"n": 2}, "n"),
    ],
)
async def test_tools_of_both_sides_are_refused(tmp_path: Path, fields: dict[str, Any], param: str) -> None:
    service = gateway(tmp_path, "x")
    refused = await ask(service, **fields)
    assert refused.status == 400 and refused.json["error"]["param"] == param
    assert service.backend.draws == []


async def test_a_client_that_leaves_frees_the_engine_in_a_later_turn(tmp_path: Path) -> None:
    service = gateway(tmp_path, SUM, Line("slow", delay_s=30.0))
    body = {"model": "champion", "messages": [{"role": "user", "content": EASY}]}
    app = application(service, tables={"profiles": {"tooled": PROFILE}})
    exchange, scope = Exchange(), request("POST", "/v1/chat/completions", {"X-Verification-Profile": "tooled"})
    chat = asyncio.create_task(exchange.run(app, scope, json.dumps(body).encode()))
    await until(lambda: len(service.backend.draws) == 2)
    exchange.leave.set()
    await chat
    assert service.backend.cancelled == 1 and service.log.records == []


def test_what_a_profile_needs_is_said_at_the_start(tmp_path: Path) -> None:
    def check(name: ToolName, **tables: Any) -> None:
        check_settings(Settings(profiles={"x": ProfileSection(tools=(name,))}, state={"dir": tmp_path}, **tables))

    check(ToolName.CALCULATOR)
    check(ToolName.SEARCH_NOTES, tools={"search_notes": {"dir": tmp_path}})
    with pytest.raises(ConfigError, match=r"profile x: .*set \[tools\.search_notes\] dir"):
        check(ToolName.SEARCH_NOTES)
    with pytest.raises(ConfigError, match=r"profile x: .*sandbox"):
        check(ToolName.PYTHON, sandbox={"backend": "off"})
    check(ToolName.PYTHON)
