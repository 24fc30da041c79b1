"""What happens between two turns of a sample: the server-side tools it called are run, and the model is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from router import strict_json
from router.domain import Prompt, Sample, ToolResult, Turn, VerificationSpec, content_text
from router.enums import ToolOutcome
from router.errors import ToolError
from router.ports import Tool

CALL_TIMEOUT_S = 10.0
MAX_CALLS = 8  # of one turn
MAX_RESULT_CHARS = 8000
MAX_ARGUMENTS_CHARS = 64 * 1024


def offering(prompt: Prompt, spec: VerificationSpec) -> Prompt:
    """`prompt` with the definitions of the tools that `spec` brings."""
    if not spec.tools:
        return prompt
    return replace(prompt, options={**prompt.options, "tools": [tool.function for tool in spec.tools]})


async def take_turn(sample: Sample, spec: VerificationSpec, tools: Mapping[str, Tool]) -> Turn:
    """Run the calls of a completion side by side. A call that cannot be run is told why, so that the model may recover.

    Raises nothing of a tool's own: a call takes at most `CALL_TIMEOUT_S` seconds, a turn runs at most `MAX_CALLS`.
    """
    calls = sample.message.get("tool_calls") or ()
    offered = {tool.name.value: tools[tool.name] for tool in spec.tools}
    results = await asyncio.gather(*(_run(*_parts(call, at), offered) for at, call in enumerate(calls[:MAX_CALLS])))
    rest = [_not_run(call, at, f"at most {MAX_CALLS} calls a turn") for at, call in enumerate(calls) if at >= MAX_CALLS]
    return _turn(sample, (*results, *rest))


def cut(sample: Sample) -> Sample:
    """A sample that still calls tools and may not go on: its calls are not run, and it ends as one cut by length."""
    calls = sample.message.get("tool_calls") or ()
    turn = _turn(sample, tuple(_not_run(call, at, "the sample had no turn left") for at, call in enumerate(calls)))
    message = {name: value for name, value in sample.message.items() if name != "tool_calls"}
    return replace(
        sample,
        message=message,
        finish_reason="length",
        token_ids=None,
        logprobs=None,
        raw_logprobs=None,
        turns=(*sample.turns, turn),
    )


def going_on(prompt: Prompt, turns: Sequence[Turn]) -> Prompt:
    """`prompt` with the turns of one sample's conversation after its own messages, which stay as they are."""
    return replace(prompt, messages=(*prompt.messages, *(message for turn in turns for message in _messages(turn))))


def _messages(turn: Turn) -> list[dict[str, Any]]:
    """What the engine is told of a turn. Its template parses the arguments: those that are not JSON go as `{}`."""
    calls = [
        {"id": r.call_id, "type": "function", "function": {"name": r.name, "arguments": _readable(r.arguments)}}
        for r in turn.results
    ]
    said = {"role": "assistant", "content": content_text(turn.message.get("content")), "tool_calls": calls}
    told = [{"role": "tool", "tool_call_id": r.call_id, "content": r.content} for r in turn.results]
    return [said, *told]


def _turn(sample: Sample, results: tuple[ToolResult, ...]) -> Turn:
    return Turn(
        sample.message, sample.finish_reason, results, sample.prompt_token_ids, sample.token_ids, sample.logprobs
    )


async def _run(call_id: str, name: str, arguments: str, offered: Mapping[str, Tool]) -> ToolResult:
    started = time.perf_counter()
    outcome, content = await _outcome(name, arguments, offered)
    ms = (time.perf_counter() - started) * 1000
    return ToolResult(call_id, name, arguments, outcome, content, ms)


async def _outcome(name: str, arguments: str, offered: Mapping[str, Tool]) -> tuple[ToolOutcome, str]:
    tool = offered.get(name)
    try:
        if tool is None:
            raise ToolError(f"there is no tool of this name; tools: {', '.join(offered)}")
        async with asyncio.timeout(CALL_TIMEOUT_S):
            answer = await tool.call(_object(arguments))
    except ToolError as error:
        return ToolOutcome.ERROR, f"error: {error}"
    except TimeoutError:
        return ToolOutcome.TIMEOUT, f"error: no result within {CALL_TIMEOUT_S:g} seconds"
    whole = len(answer) <= MAX_RESULT_CHARS
    return (
        ToolOutcome.OK,
        answer if whole else f"{answer[:MAX_RESULT_CHARS]}\n[cut after {MAX_RESULT_CHARS} characters]",
    )


def _object(arguments: str) -> Mapping[str, Any]:
    if len(arguments) > MAX_ARGUMENTS_CHARS:
        raise ToolError(f"the arguments are longer than {MAX_ARGUMENTS_CHARS} characters")
    try:
        value = strict_json.loads(arguments or "{}")
    except strict_json.NotJson as error:
        raise ToolError(f"the arguments are not one JSON object: {error}") from error
    if not isinstance(value, dict):
        raise ToolError("the arguments are not one JSON object")
    return value


def _readable(arguments: str) -> str:
    try:
        _object(arguments)
    except ToolError:
        return "{}"
    return arguments or "{}"


def _not_run(call: Mapping[str, Any], at: int, why: str) -> ToolResult:
    call_id, name, arguments = _parts(call, at)
    return ToolResult(call_id, name, arguments, ToolOutcome.NOT_RUN, f"error: not run, {why}", 0.0)


def _parts(call: Mapping[str, Any], at: int) -> tuple[str, str, str]:
    """Id, name and arguments of a call; an engine may leave out any of them."""
    function = call.get("function") or {}
    return str(call.get("id") or f"call-{at}"), str(function.get("name") or ""), str(function.get("arguments") or "")
