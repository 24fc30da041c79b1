"""Samples that call server-side tools: one sample is one conversation, and everything around it stays as it was."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from router.calculator import Calculator
from router.decode import Decoded, Decoder, Task
from router.domain import Sampling, Tokens
from router.enums import Outcome, Status, Stopped, TaskKind, ToolName, ToolOutcome
from router.errors import BackendTimeout, BackendUnavailable
from router.plan import Plan
from router.sampling import ineligible_reason
from router.stopping import HARD
from router.tool_types import definitions
from router.vote import conclude, elect
from tests.support.builders import PLAIN, check_spec, prompt, spec, tool_call
from tests.support.fakes import ENGINE, Line, ScriptedBackend, TextVerifier

ONE, VOTE = Plan(1, 1, oracle=False, quorum=0.9), Plan(1, 5, oracle=False, quorum=0.9)
TOOLS = definitions([ToolName.CALCULATOR])


def calls(expression: str, **fields: Any) -> Line:
    call = tool_call(f'{{"expression": "{expression}"}}', "calculator")
    return Line(fields.pop("text", "?"), fields.pop("finish_reason", "tool_calls"), tool_calls=(call,), **fields)


def task(*checks: Any, max_turns: int = 3, deadline_s: float = 10.0, **fields: Any) -> Task:
    deadline = asyncio.get_running_loop().time() + deadline_s
    asked = prompt(sampling=fields.pop("sampling", PLAIN), **fields)
    return Task(asked, spec(*checks, tools=TOOLS, max_turns=max_turns), TaskKind.NUMBER, "base", deadline)


async def decode(backend: ScriptedBackend, job: Task, plan: Plan = ONE) -> Decoded:
    return await Decoder(backend, TextVerifier(), {"calculator": Calculator()}).decode(job, plan)


async def test_a_sample_goes_on_after_its_calls_up_to_its_answer() -> None:
    backend = ScriptedBackend([calls("6*7"), calls("42/2"), Line("\\boxed{21}")])
    decoded = await decode(backend, task(sampling=Sampling(1.0, 1.0, -1, 0.0, seed=7)))
    [found] = decoded.candidates
    assert (found.sample.text, found.answer_key, found.sample.index) == ("\\boxed{21}", "21", 0)
    assert [[(r.outcome, r.content) for r in turn.results] for turn in found.sample.turns] == [
        [(ToolOutcome.OK, "42")],
        [(ToolOutcome.OK, "21")],
    ]
    assert [len(draw.prompt.messages) for draw in backend.draws] == [1, 3, 5]
    assert all(draw.prompt.options["tools"][0]["function"]["name"] == "calculator" for draw in backend.draws)
    assert [(draw.n, draw.sampling.seed) for draw in backend.draws] == [(1, 7)] * 3
    assert decoded.tokens == Tokens(9, 1 + 1 + len("\\boxed{21}")) and decoded.prompt_token_ids == (1, 2, 3)
    assert found.sample.prompt_token_ids == (1, 2, 3) and found.sample.turns[0].prompt_token_ids is None
    assert ineligible_reason(found.sample, prompt(), ENGINE) == "tool_turns"


async def test_a_tool_turn_is_not_judged_and_the_answer_is() -> None:
    verifier = TextVerifier()
    backend = ScriptedBackend([calls("1+1", text="right"), Line("wrong")])
    decoded = await Decoder(backend, verifier, {"calculator": Calculator()}).decode(task(check_spec()), ONE)
    assert [c.verdict.outcome for c in decoded.candidates] == [Outcome.FAIL] and verifier.calls == 1


async def test_the_samples_of_a_vote_converse_side_by_side() -> None:
    """Three are drawn in one call and two go on alone; each has its own seed, and they vote by their answers."""
    lines = [calls("1+1"), calls("2+2"), Line("\\boxed{4}"), Line("\\boxed{4}"), Line("\\boxed{4}")]
    backend = ScriptedBackend(lines)
    decoded = await decode(backend, task(sampling=Sampling(1.0, 1.0, -1, 0.0, seed=7)), VOTE)
    assert (decoded.stopped, [c.answer_key for c in decoded.candidates]) == (Stopped.QUORUM, ["4"] * 3)
    assert [(draw.n, draw.sampling.seed, len(draw.prompt.messages)) for draw in backend.draws] == [
        (3, 7, 1), (1, 7, 3), (1, 8, 3),
    ]  # fmt: skip
    assert [c.sample.turns[0].results[0].content for c in decoded.candidates[:2]] == ["2", "4"]
    ballot = elect(decoded.candidates)
    assert conclude(decoded.candidates, ballot, oracle=False, stopped=decoded.stopped)[0] is Status.CONSENSUS


async def test_a_sample_without_a_turn_left_gives_no_vote() -> None:
    backend = ScriptedBackend([calls("1+1")])
    [found] = (await decode(backend, task(max_turns=3))).candidates
    assert len(backend.draws) == 3 and len(found.sample.turns) == 3
    assert (found.sample.finish_reason, found.answer_key, "tool_calls" in found.sample.message) == (
        "length",
        None,
        False,
    )
    outcomes = [turn.results[0].outcome for turn in found.sample.turns]
    assert outcomes == [ToolOutcome.OK, ToolOutcome.OK, ToolOutcome.NOT_RUN]


async def test_a_call_that_was_cut_at_its_limit_is_not_run() -> None:
    [found] = (await decode(ScriptedBackend([calls("1+1", finish_reason="length")]), task())).candidates
    assert found.sample.finish_reason == "length" and found.answer_key is None
    assert found.sample.turns[0].results[0].outcome is ToolOutcome.NOT_RUN


async def test_an_engine_that_fails_in_a_later_turn_costs_that_sample() -> None:
    lines = [calls("1+1"), Line("\\boxed{2}"), Line("x", error=BackendUnavailable("gone")), Line("\\boxed{2}")]
    decoded = await decode(ScriptedBackend(lines), task(), Plan(1, 3, oracle=False, quorum=0.9))
    assert decoded.failures == ["gone"] and [c.answer_key for c in decoded.candidates] == ["2", "2"]
    [lost] = decoded.unjudged
    assert (lost.index, lost.completed, len(lost.turns)) == (0, False, 1)
    assert ineligible_reason(lost, prompt(), ENGINE) == "censored"


async def test_a_group_that_is_settled_cancels_the_conversations_that_still_run() -> None:
    lines = [calls("1+1"), Line("right", delay_s=0.05), Line("slow", delay_s=5.0)]
    backend = ScriptedBackend(lines)
    decoded = await decode(backend, task(check_spec()), Plan(1, 5, oracle=True, quorum=0.9, belief=HARD))
    assert decoded.stopped is Stopped.DECISIVE and backend.cancelled == 1
    [censored] = decoded.unjudged
    assert (censored.index, censored.text, len(censored.turns)) == (0, "sl", 1)
    assert decoded.tokens.completion == len("?") + len("right") + len("sl")


class Forever:
    """A tool that never answers, and says when it was left."""

    left = False

    async def call(self, arguments: Mapping[str, Any]) -> str:
        try:
            await asyncio.sleep(3600)
        finally:
            self.left = True
        return ""


async def test_the_deadline_ends_a_tool_too() -> None:
    tool = Forever()
    decoder = Decoder(ScriptedBackend([calls("1+1")]), TextVerifier(), {"calculator": tool})
    with pytest.raises(BackendTimeout):
        await decoder.decode(task(deadline_s=0.05), ONE)
    assert tool.left


async def test_without_tools_of_its_own_a_request_keeps_its_calls() -> None:
    backend = ScriptedBackend([calls("1+1")])
    deadline = asyncio.get_running_loop().time() + 10.0
    decoded = await decode(backend, Task(prompt(), spec(), TaskKind.NUMBER, "base", deadline))
    assert len(backend.draws) == 1 and decoded.candidates[0].sample.message["tool_calls"]
