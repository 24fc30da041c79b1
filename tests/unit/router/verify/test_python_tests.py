"""`python_tests` on both tiers: verdicts, scores, and who is to blame for a deadline."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from router.enums import Outcome, Tier
from router.errors import InvalidRequest
from router.sandbox.sandbox import Sandbox
from router.verify.check_type import Judgement
from router.verify.checks.python_tests import Case, PythonTestsParams, run, same
from router.verify.spec import parse_checks
from tests.support.checking import judge
from tests.support.sandboxes import opened
from tests.support.scripted_boxes import ScriptedJob, value

HONEST_S = 10.0
ADD = {"type": "python_tests", "entry": "add"}
CASES = {**ADD, "cases": [{"args": [1, 2], "expect": 3}, {"args": [], "kwargs": {"a": -1, "b": 1}, "expect": 0}]}
GOOD = "Here it is:\n```python\ndef add(a, b):\n    return a + b\n```\nDone."


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=Tier)
async def sandbox(request: pytest.FixtureRequest) -> AsyncIterator[Sandbox]:
    async with opened(request.param, warm=2) as ready:
        yield ready


on_both = pytest.mark.asyncio(loop_scope="module")


def fenced(code: str) -> str:
    return f"```python\n{code}\n```"


CASE_VERDICTS: list[tuple[str, Outcome, float, str]] = [
    (GOOD, Outcome.PASS, 1.0, ""),
    ("def add(a, b): return a + b", Outcome.PASS, 1.0, ""),
    (fenced("def add(a, b): return 3"), Outcome.FAIL, 0.5, "1 of 2 cases passed"),
    (fenced("def add(a, b): return 1 / 0"), Outcome.FAIL, 0.0, "0 of 2 cases passed; the call raised"),
    (fenced("def sub(a, b): return a - b"), Outcome.FAIL, 0.0, "no function of the entry's name"),
    (fenced("add = 5"), Outcome.FAIL, 0.0, "no function of the entry's name"),
    (fenced("def add(a, b:"), Outcome.FAIL, 0.0, "the code does not load"),
    ("I cannot do that.", Outcome.FAIL, 0.0, "the code does not load"),
    (GOOD + "\n" + fenced("def add(a, b): return 0"), Outcome.FAIL, 0.5, "1 of 2 cases passed"),
    (fenced("def add(a, b): return {a, b}"), Outcome.FAIL, 0.0, "0 of 2 cases passed; not a plain value"),
    (fenced("import os\ndef add(a, b): os._exit(0)"), Outcome.FAIL, 0.0, "0 of 2 cases passed; its process ended"),
]


@on_both
@pytest.mark.parametrize(("text", "outcome", "score", "detail"), CASE_VERDICTS)
async def test_cases(sandbox: Sandbox, text: str, outcome: Outcome, score: float, detail: str) -> None:
    assert await judge(sandbox, CASES, text, timeout_s=HONEST_S) == Judgement(outcome, score, detail)


@on_both
async def test_a_slow_candidate_fails(sandbox: Sandbox) -> None:
    found = await judge(sandbox, CASES, fenced("def add(a, b):\n    while True: pass"), timeout_s=0.5)
    assert found.outcome is Outcome.FAIL and "over its deadline" in found.detail


CALL = {"call": "add", "args": {"l": [1, 2]}, "kwargs": {"d": []}}
LATE = Judgement(Outcome.FAIL, 0.0, "over its deadline")
BLAME: list[tuple[str, tuple[list[dict[str, Any]], ...], Judgement]] = [
    ("cases", ([],), LATE),
    ("cases", ([value(["add"]), value(3)],), Judgement(Outcome.FAIL, 0.5, "1 of 2 cases passed; over its deadline")),
    ("code", ([], []), LATE),
    ("code", ([value(["add"])], [CALL]), LATE),
    ("code", ([value(["add"])], []), Judgement(Outcome.TIMEOUT, None, "the test code is over its deadline")),
    ("code", ([value(["add"]), value(3)], [CALL]),
     Judgement(Outcome.TIMEOUT, None, "the test code is over its deadline")),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "scripts", "found"), BLAME)
async def test_a_deadline_is_the_fault_of_whoever_is_working(
    kind: str, scripts: tuple[list[dict[str, Any]], ...], found: Judgement
) -> None:
    params = PythonTestsParams("add", **({"code": CHECK} if kind == "code" else {"cases": [Case(3, [1, 2]), Case(0)]}))
    assert await run(params, GOOD, ScriptedJob(*scripts), 0.01) == found


CHECK = """
def check(candidate):
    assert candidate(1, 2) == 3
    try:
        candidate("a", 1)
    except TypeError:
        pass
    else:
        raise AssertionError
"""
FUNCTIONS = """
def test_sum():
    assert add(1, 2) == 3
def test_helper():
    assert double(4) == 8
def test_in_place():
    values = [3, 1, 2]
    assert order(values) is None
    assert values == [1, 2, 3]
"""
HELPED = """
def add(a, b): return a + b
def double(x): return add(x, x)
def order(values): values.sort()
"""
TEST_VERDICTS: list[tuple[str, str, Outcome, float | None]] = [
    (CHECK, GOOD, Outcome.PASS, 1.0),
    (CHECK, fenced("def add(a, b): return 3"), Outcome.FAIL, 0.0),
    (FUNCTIONS, fenced(HELPED), Outcome.PASS, 1.0),
    (FUNCTIONS, GOOD, Outcome.FAIL, 1 / 3),
    ("assert add(1, 2) == 3", GOOD, Outcome.PASS, 1.0),
    ("assert add(1, 2) == 4", GOOD, Outcome.FAIL, 0.0),
    ("assert add(1, 2) == 3", fenced("class Any(int):\n    __eq__ = lambda *_: True\nadd = lambda *_: Any()"),
     Outcome.FAIL, 0.0),
    ("import sys\nassert add(1, 2) == 3\nsys.exit(0)", GOOD, Outcome.ERROR, None),
    ("import os\nassert add(1, 2) == 3\nos._exit(0)", GOOD, Outcome.ERROR, None),
    ("assert add(1, 2) == 3\nreturn 1", GOOD, Outcome.ERROR, None),
    ("assert add(1, 2) == 3", fenced("import os\nos._exit(0)"), Outcome.FAIL, 0.0),
]  # fmt: skip


@on_both
@pytest.mark.parametrize(("code", "text", "outcome", "score"), TEST_VERDICTS)
async def test_test_code(sandbox: Sandbox, code: str, text: str, outcome: Outcome, score: float | None) -> None:
    found = await judge(sandbox, {**ADD, "code": code}, text, timeout_s=HONEST_S)
    assert (found.outcome, found.score) == (outcome, score), found.detail


@pytest.mark.parametrize(
    ("expected", "found", "equal"),
    [
        (1, 1, True), (1, True, False), (True, 1, False), (1, 1.0, False), (1.0, 1, True), (0.3, 0.1 + 0.2, True),
        (1.0, 1.001, False), (1.0, float("nan"), False), (None, 0, False), ("", None, False), ("a", "a", True),
        ([1, 2], [1, 2], True), ([1, 2], (1, 2), True), ([1, 2], [1], False), ([1], [True], False), ([1], "1", False),
        ({"a": [1]}, {"a": [1]}, True), ({"a": 1}, {"a": True}, False), ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"1": 1}, {1: 1}, False), ([], {}, False), ({}, [], False), (1.0, 10**400, False),
        (6.626e-34, 0.0, False), (5e-324, 1e-13, False), (0.0, 1e-13, True), (1e-20, 1e-20 * (1 + 1e-10), True),
    ],
)  # fmt: skip
def test_equality_is_of_type_and_value(expected: Any, found: Any, equal: bool) -> None:
    assert same(expected, found) is equal


BAD = "def check(candidate): pass\n"
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "entry"),
    ({"cases": [], "code": BAD}, "entry"),
    ({"cases": []}, "cases"),
    ({"cases": [{"expect": 1}] * 101}, "cases"),
    ({"cases": [{"args": [1]}]}, "cases[0]"),
    ({"cases": [{"expect": 1, "foo": 1}]}, "cases[0]"),
    ({"entry": "1x", "code": BAD}, "entry"),
    ({"entry": "class", "code": BAD}, "entry"),
    ({"entry": "sum", "code": BAD}, "entry"),
    ({"code": "def check(candidate: pass"}, "code"),
    ({"code": "x = 1"}, "code"),
    ({"code": "def check(): pass"}, "code"),
    ({"code": "def test_it(tmp_path): pass"}, "code"),
    ({"code": "async def test_it(): assert add(1, 2) == 3\nassert True"}, "code"),
    ({"code": "async def check(candidate): pass\nassert True"}, "code"),
    ({"code": "def test_it():\n    yield\n    assert add(1, 2) == 4\nassert True"}, "code"),
    ({"code": "def check(candidate):\n    for x in (1, 2):\n        yield from ()"}, "code"),
    ({"code": "assert True\nif True:\n    def test_it():\n        x = yield"}, "code"),
    ({"code": "assert True\ntry:\n    async def test_it(): pass\nfinally:\n    pass"}, "code"),
    ({"code": "class TestAdd:\n    def test_it(self): assert add(1, 2) == 4\ndef test_ok(): pass"}, "code"),
    ({"code": "import unittest\nclass T(unittest.TestCase):\n    def testIt(self): pass\nassert True"}, "code"),
    ({"code": "assert 1\0"}, "code"),
    ({"code": "assert " + "(" * 5000 + ")" * 5000}, "code"),
    ({"code": "assert " + "-" * 20000 + "1"}, "code"),
    ({"code": "assert " + "not " * 7000 + "1"}, "code"),
    ({"code": "assert a" + ".b" * 15000}, "code"),
    ({"code": "assert 1" + "+1" * 15000}, "code"),
    ({"code": "assert 1\n" * 4000}, "code"),
    ({"code": "\ud800"}, None),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "param"), REFUSED)
def test_bad_tests_are_refused_at_once(fields: dict[str, Any], param: str | None) -> None:
    started = time.process_time()
    with pytest.raises(InvalidRequest) as caught:
        parse_checks([{**ADD, **fields}], where="checks", default_timeout_s=3.0)
    assert time.process_time() - started < 0.5  # of the processor; 50 ms on a quiet machine: see the bench
    assert caught.value.param == ("checks" if param is None else f"checks[0].{param}")


def test_what_is_inside_of_a_test_is_its_own() -> None:
    code = """
class Case:
    def __init__(self): self.numbers = (1, 2)
def test_it():
    def numbers():
        yield 1
    class Test:
        def test(self): return 3
    async def later(): pass
    assert add(*numbers(), 2) == Test().test()
if True:
    def test_more(): assert Case().numbers
"""
    (check,) = parse_checks([{**ADD, "code": code}], where="checks", default_timeout_s=3.0)
    assert check.params["code"] == code


def test_a_compile_time_bomb_is_folded_by_nobody() -> None:
    started = time.process_time()
    parse_checks([{**ADD, "code": "assert 9**9**9**9 and 'x'*10**12"}], where="checks", default_timeout_s=3.0)
    assert time.process_time() - started < 0.5
