"""`python_tests`: the answer's code returns what the cases expect, or passes the tenant's test code.

The candidate runs in a sandbox that no expected value enters; test code runs in a second one and calls across.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import keyword
import math
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, TypeGuard

import msgspec

from router.enums import CheckClass, Outcome
from router.errors import InvalidRequest
from router.sandbox.box import Box, BoxEnded
from router.sandbox.inside.values import NotPlain, decode
from router.sandbox.sandbox import Job
from router.verify.candidate import CandidateEnded, CandidateFailed, ask, call, code_of, load
from router.verify.check_type import PASSED, Judgement, SandboxedCheck, failed, undecided

MAX_CASES = 100
MAX_CODE_CHARS = 16 * 1024
_MAX_NESTING = 100  # of brackets; the parser itself gives up at 200
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
_MAX_CALLS = 10_000  # of one test module
_RTOL, _ZERO = 1e-9, 1e-12  # of the expected value's size; beside an expected 0


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One call of the entry, and the value it must return."""

    expect: Any
    args: list[Any] = []
    kwargs: dict[str, Any] = {}


class PythonTestsParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Fields of a `python_tests` check."""

    entry: str
    cases: list[Case] | None = None
    code: str | None = None


def admit(params: PythonTestsParams) -> None:
    """Refuse cases there are none of and tests that do not compile. Raises `InvalidRequest`."""
    if not params.entry.isidentifier() or keyword.iskeyword(params.entry):
        raise InvalidRequest("must be the name of a function", param="entry")
    if (params.cases is None) == (params.code is None):
        raise InvalidRequest("must come with either cases or code", param="entry")
    if params.cases is not None and not 1 <= len(params.cases) <= MAX_CASES:
        raise InvalidRequest(f"must hold 1 to {MAX_CASES} cases", param="cases")
    if params.code is not None:
        if hasattr(builtins, params.entry):
            raise InvalidRequest("is a builtin, which in test code is Python's own: give cases", param="entry")
        _admit_code(params.code)


async def run(params: PythonTestsParams, text: str, job: Job, timeout_s: float) -> Judgement:
    """The share of cases or tests that pass is the score; pass when all do."""
    candidate = await job.open()
    tests = await job.open() if params.code is not None else None
    deadline = asyncio.get_running_loop().time() + timeout_s
    try:
        names = await load(candidate, code_of(text), deadline)
        if tests is not None:
            return await _run_tests(params, candidate, tests, names, deadline)
        if params.entry not in names:
            raise CandidateFailed("no function of the entry's name")
    except CandidateFailed as error:
        return failed(str(error))
    return await _run_cases(params, candidate, deadline)


async def _run_cases(params: PythonTestsParams, candidate: Box, deadline: float) -> Judgement:
    cases = params.cases or []
    passed, why = 0, ""
    for case in cases:
        try:
            value = await call(candidate, params.entry, case.args, case.kwargs, deadline)
        except CandidateEnded as error:
            why = str(error)
            break
        except CandidateFailed as error:
            why = str(error)
            continue
        passed += same(case.expect, value)
    return _share(passed, len(cases), "cases", why)


async def _run_tests(
    params: PythonTestsParams, candidate: Box, tests: Box, names: list[str], deadline: float
) -> Judgement:
    """Carry each call of the test code to the candidate and its answer back, until the verdicts come."""
    request = {"op": "test", "source": params.code, "names": names, "entry": params.entry}
    try:
        async with asyncio.timeout_at(deadline):
            message = await tests.ask(request)
        for _ in range(_MAX_CALLS):
            match message:
                case {"call": str(name), "args": args, "kwargs": kwargs}:
                    calling = {"op": "call", "name": name, "args": args, "kwargs": kwargs, "state": True}
                case _:
                    return _verdict(message)
            reply = await ask(candidate, calling, deadline)
            async with asyncio.timeout_at(deadline):
                message = await tests.ask(reply)
    except TimeoutError:
        return Judgement(Outcome.TIMEOUT, None, "the test code is over its deadline")
    except BoxEnded:
        return undecided("the process of the test code ended")
    return undecided("the test code calls too often")


def _verdict(message: dict[str, Any]) -> Judgement:
    try:
        verdicts = decode(message["value"])
    except (KeyError, NotPlain):
        return undecided("the test code ended itself")
    if not isinstance(verdicts, list) or not verdicts:
        return undecided("the test code gave no verdict")
    module, *rest = (verdict is True for verdict in verdicts)
    if not module:
        return failed("the test module failed")
    return _share(sum(rest), len(rest), "tests") if rest else PASSED


def _share(passed: int, total: int, what: str, why: str = "") -> Judgement:
    if passed == total:
        return PASSED
    detail = f"{passed} of {total} {what} passed"
    return failed(f"{detail}; {why}" if why else detail, passed / total)


def same(expected: Any, value: Any) -> bool:
    """Whether a returned value is the JSON value expected, type and all.

    A tuple may stand for a list, an int for a float; a bool is never a number; floats agree within 1e-9 of their size,
    and with an expected 0 within 1e-12.
    """
    if type(expected) is float:
        return type(value) in (int, float) and _close(value, expected)
    if type(expected) is list:
        return type(value) in (list, tuple) and len(value) == len(expected) and all(map(same, expected, value))
    if type(expected) is dict:
        return (
            type(value) is dict
            and value.keys() == expected.keys()
            and all(same(item, value[key]) for key, item in expected.items())
        )
    return type(value) is type(expected) and bool(value == expected)


def _close(value: float, expected: float) -> bool:
    try:
        return math.isclose(value, expected, rel_tol=_RTOL, abs_tol=0 if expected else _ZERO)
    except OverflowError:  # an integer beyond every float
        return False


def _admit_code(code: str) -> None:
    if len(code) > MAX_CODE_CHARS:
        raise InvalidRequest(f"is longer than {MAX_CODE_CHARS // 1024} KiB", param="code")
    depth = 0
    for char in code:  # brackets in strings count too: no test needs so many
        depth += (char in "([{") - (char in ")]}")
        if depth > _MAX_NESTING:
            raise InvalidRequest("is nested too deep", param="code")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = ast.parse(code, "<tests>")  # code generation would take ten times as long
    except SyntaxError as error:
        raise InvalidRequest(f"does not compile: line {error.lineno}: {error.msg}", param="code") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise InvalidRequest("does not compile", param="code") from error
    _admit_tests(module)


def _admit_tests(module: ast.Module) -> None:
    """Refuse code that tests nothing, and tests that would pass because nothing runs them."""
    for node in _within(module.body):
        if isinstance(node, ast.ClassDef) and any(_name(each).startswith("test") for each in node.body):
            raise _refused(f"has a class {node.name[:80]} with tests: write them as functions")
        if _is_test(node):
            _admit_test(node)
    if not any(isinstance(node, ast.Assert) or _is_test(node) for node in module.body):
        raise _refused("has neither check(candidate), nor a test_ function, nor an assert")


def _is_test(node: ast.AST) -> TypeGuard[ast.FunctionDef | ast.AsyncFunctionDef]:
    return _name(node) == "check" or _name(node).startswith("test_")


def _admit_test(function: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    required = len(function.args.posonlyargs) + len(function.args.args) - len(function.args.defaults)
    if required != int(function.name == "check"):
        takes = "one argument, the candidate" if function.name == "check" else "no argument"
        raise _refused(f"has a function {function.name[:80]} that must take {takes}")
    generates = any(isinstance(node, ast.Yield | ast.YieldFrom) for node in _within(function.body))
    if generates or isinstance(function, ast.AsyncFunctionDef):
        raise _refused(f"has a coroutine or generator {function.name[:80]}, which would pass without being run")


def _within(body: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """The nodes of a body and beneath them, in `if` and `try` too, but not inside of functions and classes."""
    pending = deque(body)
    while pending:
        node = pending.popleft()
        yield node
        if not isinstance(node, _SCOPES):
            pending.extend(ast.iter_child_nodes(node))


def _name(node: ast.AST) -> str:
    """Of a function; else empty."""
    return node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else ""


def _refused(why: str) -> InvalidRequest:
    return InvalidRequest(why, param="code")


TYPE = SandboxedCheck("python_tests", CheckClass.DECISIVE, "2", PythonTestsParams, admit, run)
