"""The second verifier of `python_tests`: the cases shuffled in a new sandbox, and some each in one of its own.

What one call leaves behind for the next shows. Test code is not run: its plain assertions are read as cases.
"""

from __future__ import annotations

import ast
import asyncio
import random
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from router.enums import Outcome
from router.sandbox.inside.values import NotPlain, encode
from router.sandbox.sandbox import Job
from router.verify.candidate import OVER_DEADLINE, CandidateEnded, CandidateFailed, call, code_of, load
from router.verify.check_type import PASSED, Judgement, failed, undecided
from router.verify.checks.python_tests import PythonTestsParams

_ALONE = 8  # cases that get a sandbox of their own: each is a process to start


class _Case(NamedTuple):
    args: list[Any]
    kwargs: dict[str, Any]
    expect: Any
    is_json: bool  # equal in JSON, type and all, else as Python's == has it


async def run(params: PythonTestsParams, text: str, job: Job, timeout_s: float) -> Judgement:
    """Pass when every case does. Each sandbox has `timeout_s`."""
    if params.cases is not None:
        cases = [_Case(case.args, case.kwargs, case.expect, True) for case in params.cases]
    else:
        cases = _asserted(params.code or "", params.entry)
    if not cases or _contradict(cases):
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
        return bool(wanted == found or abs(wanted - found) <= max(1e-9 * max(abs(wanted), abs(found)), 1e-12))
    except OverflowError:  # an integer that is no float
        return False


def _asserted(code: str, entry: str) -> list[_Case]:
    """The cases in test code: `assert f(<literals>) == <literal>` outside of any block, or the other way round."""
    module = ast.parse(code)
    if any(
        isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id == entry for node in ast.walk(module)
    ):
        return []
    found = [_case(each, entry) for each in module.body]
    for function in module.body:
        if isinstance(function, ast.FunctionDef) and function.name == "check":
            found += [_case(each, function.args.args[0].arg) for each in function.body if function.args.args]
        elif isinstance(function, ast.FunctionDef) and function.name.startswith("test_"):
            found += [_case(each, entry) for each in function.body]
    return [case for case in found if case is not None]


def _case(statement: ast.stmt, name: str) -> _Case | None:
    match statement:
        case ast.Assert(test=ast.Compare(left=left, ops=[ast.Eq()], comparators=[right])):
            calling, expect = (left, right) if isinstance(left, ast.Call) else (right, left)
        case _:
            return None
    if not isinstance(calling, ast.Call) or not isinstance(calling.func, ast.Name) or calling.func.id != name:
        return None
    try:
        args = [ast.literal_eval(each) for each in calling.args]
        kwargs = {each.arg: ast.literal_eval(each.value) for each in calling.keywords if each.arg}
        wanted = ast.literal_eval(expect)
        encode([args, kwargs, wanted])
    except (ValueError, TypeError, NotPlain):  # not of literals, or not plain ones
        return None
    return None if len(kwargs) < len(calling.keywords) else _Case(args, kwargs, wanted, False)
