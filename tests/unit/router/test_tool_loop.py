"""Between two turns: which calls run, what the model is told, and what the engine is sent."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from router import tool_loop
from router.domain import VerificationSpec
from router.enums import ToolName, ToolOutcome
from router.errors import ToolError
from router.tool_loop import MAX_CALLS, MAX_RESULT_CHARS, cut, going_on, offering, take_turn
from router.tool_types import TOOL_TYPES, definitions
from tests.support.builders import prompt, sample, tool_call

SPEC = VerificationSpec(tools=definitions([ToolName.CALCULATOR, ToolName.SEARCH_NOTES]), max_turns=3)


class Told:
    """A tool that says one thing, raises it, or waits for ever."""

    def __init__(self, said: str | Exception | None) -> None:
        self.said, self.asked = said, []

    async def call(self, arguments: Mapping[str, Any]) -> str:
        self.asked.append(arguments)
        if self.said is None:
            await asyncio.sleep(3600)
        if isinstance(self.said, Exception):
            raise self.said
        return str(self.said)


def calling(*calls: Mapping[str, Any], **fields: Any) -> Any:
    message = {"role": "assistant", "content": None, "tool_calls": list(calls)}
    return sample(message=message, finish_reason="tool_calls", **fields)


def tools(calculator: Told, notes: Told | None = None) -> dict[str, Told]:
    return {"calculator": calculator, "search_notes": notes or Told("a note"), "python": Told("never")}


async def test_the_calls_of_a_turn_run_side_by_side_and_keep_their_order() -> None:
    calculator, notes = Told("4"), Told("a note")
    sums = [tool_call('{"expression": "2+2"}', "calculator", "c1"), tool_call('{"query": "x"}', "search_notes", "c2")]
    turn = await take_turn(calling(*sums), SPEC, tools(calculator, notes))
    assert [(r.call_id, r.name, r.outcome, r.content) for r in turn.results] == [
        ("c1", "calculator", ToolOutcome.OK, "4"),
        ("c2", "search_notes", ToolOutcome.OK, "a note"),
    ]
    assert calculator.asked == [{"expression": "2+2"}] and notes.asked == [{"query": "x"}]
    assert turn.token_ids is not None and all(result.ms >= 0 for result in turn.results)


@pytest.mark.parametrize("arguments", ["", "{", "[1]", '"x"', "NaN", '{"a": 1, "a": 2}', "[" * 100, '{"a": 1} x'])
async def test_arguments_that_are_no_object_are_an_error_the_model_reads(arguments: str) -> None:
    calculator = Told("4")
    turn = await take_turn(calling(tool_call(arguments, "calculator")), SPEC, tools(calculator))
    [result] = turn.results
    empty = arguments == ""  # an engine writes nothing where a call takes no arguments
    assert result.outcome is (ToolOutcome.OK if empty else ToolOutcome.ERROR) and result.arguments == arguments
    assert empty or ("not one JSON object" in result.content and calculator.asked == [])
    [_, said, _] = going_on(prompt(), [turn]).messages
    assert json.loads(said["tool_calls"][0]["function"]["arguments"]) == {}  # a template parses them


@pytest.mark.parametrize("name", ["", "rm", "python", "Calculator"])
async def test_a_tool_that_was_not_offered_is_not_run(name: str) -> None:
    box = tools(Told("4"))
    [result] = (await take_turn(calling(tool_call("{}", name)), SPEC, box)).results
    assert result.outcome is ToolOutcome.ERROR and "tools: calculator, search_notes" in result.content
    assert all(tool.asked == [] for tool in box.values())


@pytest.mark.parametrize("call", [{}, {"function": None}, {"id": None, "function": {"name": None, "arguments": None}}])
async def test_a_call_that_lacks_its_parts_gets_an_id(call: Mapping[str, Any]) -> None:
    [result] = (await take_turn(calling(call), SPEC, tools(Told("4")))).results
    assert (result.call_id, result.outcome) == ("call-0", ToolOutcome.ERROR)


async def test_a_tool_that_fails_or_hangs_is_told_to_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool_loop, "CALL_TIMEOUT_S", 0.05)
    calls = calling(tool_call("{}", "calculator"), tool_call("{}", "search_notes"))
    turn = await take_turn(calls, SPEC, tools(Told(ToolError("no such thing")), Told(None)))
    assert [(r.outcome, r.content) for r in turn.results] == [
        (ToolOutcome.ERROR, "error: no such thing"),
        (ToolOutcome.TIMEOUT, "error: no result within 0.05 seconds"),
    ]


async def test_results_and_calls_are_bounded() -> None:
    calculator = Told("9" * (MAX_RESULT_CHARS + 1))
    calls = [tool_call("{}", "calculator", f"c{n}") for n in range(MAX_CALLS + 2)]
    results = (await take_turn(calling(*calls), SPEC, tools(calculator))).results
    assert [r.outcome for r in results] == [ToolOutcome.OK] * MAX_CALLS + [ToolOutcome.NOT_RUN] * 2
    assert len(calculator.asked) == MAX_CALLS and len({r.call_id for r in results}) == len(calls)
    assert all(len(r.content) <= MAX_RESULT_CHARS + 40 for r in results) and "[cut after" in results[0].content


async def test_the_messages_of_the_client_stay_and_each_call_is_answered() -> None:
    asked = prompt("What is 2 + 2?")
    turn = await take_turn(calling(tool_call('{"expression": "2+2"}', "calculator", "c1")), SPEC, tools(Told("4")))
    longer = going_on(asked, [turn, turn])
    assert longer.messages[:1] == asked.messages and len(longer.messages) == 5
    assert longer.messages[1:3] == (
        {"role": "assistant", "content": "", "tool_calls": [tool_call('{"expression": "2+2"}', "calculator", "c1")]},
        {"role": "tool", "tool_call_id": "c1", "content": "4"},
    )


def test_the_offer() -> None:
    offered = offering(prompt(stop=["x"]), SPEC).options
    assert offered["stop"] == ["x"]
    assert [tool["function"]["name"] for tool in offered["tools"]] == ["calculator", "search_notes"]
    assert offering(prompt(), VerificationSpec()) == prompt()
    assert set(TOOL_TYPES) == set(ToolName)


def test_a_cut_sample_says_what_was_not_run() -> None:
    ended = cut(calling(tool_call("{}", "calculator", "c1")))
    assert (ended.finish_reason, ended.text, "tool_calls" in ended.message) == ("length", "", False)
    [turn] = ended.turns
    assert [(r.call_id, r.outcome) for r in turn.results] == [("c1", ToolOutcome.NOT_RUN)]
    assert turn.token_ids is not None and ended.token_ids is None
