"""`python_outputs` in a real sandbox: who votes with whom, and who does not vote."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from router.decode import Decoder, Task
from router.enums import Outcome, Reason, Status, Stopped, TaskKind, Tier
from router.errors import InvalidRequest
from router.plan import Plan
from router.sandbox.sandbox import Sandbox
from router.verify.check_type import Judgement
from router.verify.checks.python_outputs import PythonOutputsParams, run
from router.verify.inputs import INPUTS, generated
from router.verify.pool import WorkerPool
from router.verify.spec import parse_checks
from router.verify.value_key import value_key
from router.verify.verifier import IsolatedVerifier
from router.vote import conclude, elect
from tests.support.builders import prompt, spec
from tests.support.checking import judge
from tests.support.fakes import Line, ScriptedBackend
from tests.support.sandboxes import opened
from tests.support.scripted_boxes import ScriptedJob, value

SUM = {"type": "python_outputs", "entry": "f", "args": ["list[int]"]}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox() -> AsyncIterator[Sandbox]:
    async with opened(Tier.LANDLOCK, warm=2) as ready:
        yield ready


in_sandbox = pytest.mark.asyncio(loop_scope="module")

FIBONACCI = "def f(n):\n    a, b = 0, 1\n    for _ in range(n): a, b = b, a + b\n    return a"
APART: dict[str, tuple[str, str, str]] = {  # by types: a program, one that computes the same, a mutant
    "list[int]": (
        "def f(x): return sum(x)",
        "def f(x):\n    t = 0\n    for i in x: t += i\n    return t",
        "def f(x): return sum(x[1:])",
    ),
    "str": (
        "def f(s): return s == s[::-1]",
        "def f(s): return all(a == b for a, b in zip(s, reversed(s)))",
        "def f(s): return s[:1] == s[-1:]",
    ),
    "int": (
        "def f(y): return y % 400 == 0 or y % 100 != 0 and y % 4 == 0",
        "import calendar\ndef f(y): return calendar.isleap(y)",
        "def f(y): return y % 4 == 0",
    ),
    "str str": (
        "def f(a, b): return sorted(a) == sorted(b)",
        "from collections import Counter\ndef f(a, b): return Counter(a) == Counter(b)",
        "def f(a, b): return a == b",
    ),
    "size": (
        "def f(n): return n if n < 2 else f(n - 1) + f(n - 2)",
        FIBONACCI,
        "def f(n): return n if n < 3 else f(n - 1) + f(n - 2)",
    ),
    "list[float]": (
        "def f(x): return sum(x) / len(x)",
        "def f(x): return sum(reversed(x)) / len(x)",
        "def f(x): return sum(x) / (len(x) or 1)",
    ),
    "list[int] bool": (
        "def f(x, down): x.sort(reverse=down)",
        "def f(x, down): x[:] = sorted(x)[::-1 if down else 1]",
        "def f(x, down): x.sort()",
    ),
    "list[str]": (
        "def f(x): return {w: len(w) for w in x}",
        "def f(x): return {w: len(w) for w in reversed(x)}",
        "def f(x): return {w: 1 for w in x}",
    ),
    "float int": (
        "def f(x, n): return round(x, 1) + n",
        "def f(x, n): return n + round(x, 1)",
        "def f(x, n): return round(x, 2) + n",
    ),
}


@in_sandbox
@pytest.mark.parametrize("types", APART)
async def test_equals_vote_together_and_mutants_apart(sandbox: Sandbox, types: str) -> None:
    check = {**SUM, "args": types.split()}
    first, second, third = [await judge(sandbox, check, code) for code in APART[types]]
    assert (first.outcome, first.score) == (Outcome.PASS, None) and first.key is not None
    assert second.key == first.key
    assert third.key not in (None, first.key)


NO_FUNCTION = [
    ("def g(x): return sum(x)", "no function of the entry's name"),
    ("def f(x: return 1", "the code does not load"),
]
NO_VOTE = [
    ("def f(x): return set(x)", "not a plain value"),
    ("def f(x): return 1", "computes the same on all inputs"),
    ("def f(x): print(len(x))", "computes the same on all inputs"),
    ("def f(x): raise NotImplementedError", "raises on most inputs"),
    ("def f(x, y): return x", "raises on most inputs"),
    ("import os\ndef f(x): os._exit(0)", "its process ended"),
]


@in_sandbox
@pytest.mark.parametrize(("code", "why"), NO_VOTE)
async def test_what_computes_nothing_to_compare_does_not_vote(sandbox: Sandbox, code: str, why: str) -> None:
    found = await judge(sandbox, SUM, code, timeout_s=10.0)
    assert (found.outcome, found.score, found.detail, found.key) == (Outcome.SKIPPED, None, why, None)


@pytest.mark.parametrize("calls", [0, 5])
async def test_what_does_not_end_does_not_vote(calls: int) -> None:
    job = ScriptedJob([value(["f"]), *(value(number) for number in range(calls))])
    found = await run(PythonOutputsParams("f", ["int"]), "def f(x): ...", job, 0.01)
    assert found == Judgement(Outcome.SKIPPED, None, "over its deadline")


@in_sandbox
@pytest.mark.parametrize(("code", "why"), NO_FUNCTION)
async def test_an_answer_without_the_function_fails(sandbox: Sandbox, code: str, why: str) -> None:
    found = await judge(sandbox, SUM, code)
    assert (found.outcome, found.score, found.detail, found.key) == (Outcome.FAIL, 0.0, why, None)


@in_sandbox
async def test_code_that_agrees_is_consensus_and_no_more(sandbox: Sandbox) -> None:
    checks = parse_checks([SUM], where="checks", default_timeout_s=3.0)
    lines = [
        Line("def f(x): return sum(x)"), Line("def f(x): return sum(x) + 1"), Line("def f(x): return sum(reversed(x))"),
        Line("I cannot."), Line("def f(x): return sum(x[:])"),
    ]  # fmt: skip
    verifier = IsolatedVerifier(WorkerPool(workers=1, queue=1), sandbox)
    deadline = asyncio.get_running_loop().time() + 10.0
    task = Task(prompt(), spec(*checks), TaskKind.CODE, "base", deadline)
    decoded = await Decoder(ScriptedBackend(lines), verifier).decode(task, Plan(5, 5, oracle=False, quorum=0.9))
    keys = [candidate.answer_key for candidate in decoded.candidates]
    assert keys[0] == keys[2] == keys[4] and keys[3] is None and len(set(keys)) == 3
    ballot = elect(decoded.candidates)
    assert (ballot.votes, ballot.winner.answer_key) == (3, keys[0])
    claim = conclude(decoded.candidates, ballot, oracle=False, stopped=Stopped.CAP)
    assert claim == (Status.CONSENSUS, Reason.MAJORITY)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"entry": "f g"}, "checks[0].entry"),
        ({"args": []}, "checks[0].args"),
        ({"args": ["int"] * 9}, "checks[0].args"),
        ({"args": ["set"]}, "checks[0].args[0]"),
    ],
)
def test_what_cannot_be_called_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_checks([SUM | fields], where="checks", default_timeout_s=3.0)
    assert refused.value.param == param


def test_inputs_depend_on_name_and_types_alone() -> None:
    inputs = generated("f", ["int", "list[str]"])
    assert inputs == generated("f", ["int", "list[str]"]) != generated("g", ["int", "list[str]"])
    assert len(inputs) == INPUTS and {type(number) for number, _ in inputs} == {int}
    assert [] in [words for _, words in inputs] and 0 in [number for number, _ in inputs]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (2, 2.0, True), (0.1 + 0.2, 0.3, True), ((1, 2), [1, 2], True), ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        (0.0, -1e-17, True), (True, 1, False), ("1", 1, False), (None, "None", False), ([1, [2]], [[1], 2], False),
        (["a,b"], ["a", "b"], False), (255, "ff", False), (float("inf"), float("-inf"), False),
    ],
)  # fmt: skip
def test_a_value_is_keyed_by_what_it_stands_for(one: object, other: object, same: bool) -> None:
    assert (value_key(one) == value_key(other)) is same
