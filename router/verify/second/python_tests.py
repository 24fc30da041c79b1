"""The second verifier of `python_tests`: the cases shuffled in a new sandbox, and some each in one of its own.

What one call leaves behind for the next shows. Test code is not run: its plain assertions are read as cases.
"""

from __future__ import annotations

import ast
import asyncio
import operator
import random
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from router.enums import Outcome
from router.sandbox.inside.values import NotPlain, encode
from router.sandbox.sandbox import Job
from router.verify.candidate import OVER_DEADLINE, CandidateEnded, CandidateFailed, call, code_of, load
from router.verify.check_type import PASSED, Judgement, failed, undecided
from router.verify.checks.python_tests import PythonTestsParams
from router.verify.second.reading import Unreadable

_ALONE = 8  # cases that get a sandbox of their own: each is a process to start
_LARGEST = 10**12
_FOLDED: Mapping[type[ast.operator], Any] = MappingProxyType(
    {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
)


class _Case(NamedTuple):
    args: list[Any]
    kwargs: dict[str, Any]
    expect: Any
    is_json: bool  # equal in JSON, type and all, else as Python's == has it


def admit(params: PythonTestsParams) -> None:
    """Raise `Unreadable` where there are no cases to judge by."""
    if not cases_of(params):
        raise Unreadable("no cases")


async def run(params: PythonTestsParams, text: str, job: Job, timeout_s: float) -> Judgement:
    """Pass when every case does. Each sandbox has `timeout_s`."""
    cases = cases_of(params)
    if not cases:
        return undecided("the second verifier cannot judge")
    random.Random(text).shuffle(cases)  # the same order whenever this answer is read
    try:
        for batch in (cases, *([case] for case in cases[:_ALONE])):
            if not await _accepts(job, code_of(text), params.entry, batch, timeout_s):
                return failed("the second verifier does not accept the answer")
    except CandidateEnded as error:
        if str(error) == OVER_DEADLINE:
            return Judgement(Outcome.TIMEOUT, None, str(error))
        return failed(str(error))
    except CandidateFailed as error:
        return failed(str(error))
    return PASSED


def cases_of(params: PythonTestsParams) -> list[_Case]:
    """The cases in any order; none where the test code says more, or where their order tells a story."""
    if params.cases is not None:
        cases = [_Case(case.args, case.kwargs, case.expect, True) for case in params.cases]
    else:
        try:
            cases = _asserted(params.code or "", params.entry)
        except RecursionError:  # a sum of thousands of terms
            cases = []
    return [] if _contradict(cases) else cases


def equal(expected: Any, value: Any) -> bool:
    """Whether a value is the JSON value expected: the same places hold the same leaves; floats within 1e-9."""
    wanted, found = dict(_leaves(expected, ())), dict(_leaves(value, ()))
    return wanted.keys() == found.keys() and all(_same_leaf(leaf, found[place]) for place, leaf in wanted.items())


async def _accepts(job: Job, source: str, entry: str, cases: Sequence[_Case], timeout_s: float) -> bool:
    """Whether all cases are right in one new sandbox. Raises `CandidateFailed`."""
    box = await job.open()
    deadline = asyncio.get_running_loop().time() + timeout_s
    try:
        await load(box, source, deadline)
        for args, kwargs, expect, is_json in cases:
            value = await call(box, entry, args, kwargs, deadline)
            if not (equal(expect, value) if is_json else value == expect):
                return False
    finally:
        box.kill()
    return True


def _contradict(cases: Sequence[_Case]) -> bool:
    """Whether one call is to return two things: the cases are a story, whose order matters."""
    told: dict[str, str] = {}
    return any(told.setdefault(repr(case[:2]), repr(case.expect)) != repr(case.expect) for case in cases)


def _leaves(value: Any, place: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """The leaves of a plain value by their place; each container is a leaf too, which says what it is."""
    if isinstance(value, list | tuple):
        yield place, ("array", len(value))
        for index, item in enumerate(value):
            yield from _leaves(item, (*place, index))
    elif isinstance(value, dict):
        yield place, ("object", len(value))
        for key, item in value.items():
            yield from _leaves(item, (*place, ("key", key)))
    else:
        yield place, value


def _same_leaf(wanted: Any, found: Any) -> bool:
    if not isinstance(wanted, float) or type(found) not in (float, int):
        return type(wanted) is type(found) and bool(wanted == found)
    try:
        return bool(wanted == found or abs(wanted - found) <= (1e-9 * abs(wanted) if wanted else 1e-12))
    except OverflowError:  # an integer that is no float
        return False


def _asserted(code: str, entry: str) -> list[_Case]:
    """The cases in test code that is nothing but `assert f(<literals>) == <literal>`, or the other way round.

    None where there is anything else that could fail: the cases alone would let pass what the test code does not.
    """
    found: list[_Case] = []
    for statement in ast.parse(code).body:
        match statement:
            case ast.FunctionDef(name="check", args=ast.arguments(args=[taken]), body=body):
                cases = [_cases_of(each, taken.arg) for each in body]
            case ast.FunctionDef(name=name, body=body) if name.startswith("test_"):
                cases = [_cases_of(each, entry) for each in body]
            case _:
                cases = [_cases_of(statement, entry)]
        for each in cases:
            if each is None:
                return []
            found += each
    return found


def _cases_of(statement: ast.stmt, name: str) -> list[_Case] | None:
    """What one statement asserts of `name`: nothing, one case, or None where that cannot be told."""
    match statement:
        case ast.Pass() | ast.Expr(value=ast.Constant()) | ast.Assert(test=ast.Constant(value=True)):
            return []
        case ast.Assign(targets=[ast.Name(id=target)], value=value) if target != name and _is_literal(value):
            return []
        case ast.Expr(value=ast.Call(func=ast.Name(id="check"), args=[ast.Name()], keywords=[])):
            return []
    case_found = _case(statement, name)
    return None if case_found is None else [case_found]


def _is_literal(value: ast.expr) -> bool:
    try:
        _literal(value)
    except (ValueError, TypeError):
        return False
    return True


def _literal(node: ast.expr) -> Any:
    """The value of a literal, or of one small sum, product or quotient of numbers. Raises `ValueError`, `TypeError`."""
    if isinstance(node, ast.BinOp) and type(node.op) in _FOLDED:
        left, right = _literal(node.left), _literal(node.right)
        joined = isinstance(node.op, ast.Add) and isinstance(left, str) and isinstance(right, str)
        small = all(type(each) in (int, float) and abs(each) < _LARGEST for each in (left, right))
        if not joined and not (small and (right or not isinstance(node.op, ast.Div))):
            raise ValueError("no plain sum")
        return _FOLDED[type(node.op)](left, right)
    return ast.literal_eval(node)


def _case(statement: ast.stmt, name: str) -> _Case | None:
    match statement:
        case ast.Assert(test=ast.Compare(left=left, ops=[ast.Eq()], comparators=[right])):
            calling, expect = (left, right) if isinstance(left, ast.Call) else (right, left)
            is_json = False
        case ast.Assert(
            test=ast.Compare(left=calling, ops=[ast.Is()], comparators=[ast.Constant(value=bool()) as expect])
        ):
            is_json = True
        case _:
            return None
    if not isinstance(calling, ast.Call) or not isinstance(calling.func, ast.Name) or calling.func.id != name:
        return None
    try:
        args = [_literal(each) for each in calling.args]
        kwargs = {each.arg: _literal(each.value) for each in calling.keywords if each.arg}
        wanted = _literal(expect)
        encode([args, kwargs, wanted])
    except (ValueError, TypeError, NotPlain):  # not of literals, or not plain ones
        return None
    return None if len(kwargs) < len(calling.keywords) else _Case(args, kwargs, wanted, is_json)
