"""`sql`: the answer's query returns the rows that each fixture expects, or those of a reference query.

Each query runs in a sandbox; the reference in another, so that its rows never enter the candidate's.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from router.enums import CheckClass, Outcome
from router.errors import InvalidRequest
from router.sandbox import inside
from router.sandbox.box import Box
from router.sandbox.inside.sql import MAX_ROWS
from router.sandbox.sandbox import Job
from router.verify.candidate import OVER_DEADLINE, CandidateEnded, CandidateFailed, call, code_of, load
from router.verify.check_type import PASSED, Judgement, SandboxedCheck, failed, undecided
from router.verify.sql_text import BadSql, sorts_its_result, statements

MIN_FIXTURES, MAX_FIXTURES = 2, 16
_RTOL, _ZERO = 1e-6, 1e-9  # of the expected value's size; beside an expected 0
_INT64 = 2**63
_SETUP = ("CREATE", "INSERT", "UPDATE", "DELETE", "ALTER", "DROP", "WITH")
_QUERY = ("SELECT", "WITH", "VALUES")
_KINDS = (("CREATE", "TRIGGER"), ("CREATE", "VIRTUAL"))  # of statements that hold others, or run modules
_SOURCE = Path(inside.__file__).parent / "sql.py"

Row = Sequence[Any]


class Fixture(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A database, and the rows that the query must return on it."""

    setup: str
    expect: list[list[str | int | float | bool | None]]


class SqlParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Fields of a `sql` check."""

    fixtures: list[Fixture] | None = None
    setup: list[str] | None = None
    reference_query: str | None = None
    ordered: bool | None = None
    dialect: Literal["sqlite"] = "sqlite"


def admit(params: SqlParams) -> None:
    """Refuse fixtures that prove nothing or reach out of their database. Raises `InvalidRequest`."""
    by_reference = params.setup is not None and params.reference_query is not None
    if (params.fixtures is not None) == by_reference or (params.setup is None) != (params.reference_query is None):
        raise InvalidRequest("must come alone, or setup with reference_query in its place", param="fixtures")
    setups = _setups(params)
    where = "setup" if by_reference else "fixtures"
    if not MIN_FIXTURES <= len(setups) <= MAX_FIXTURES:
        raise InvalidRequest(f"must hold {MIN_FIXTURES} to {MAX_FIXTURES} databases", param=where)
    for index, setup in enumerate(setups):
        _admit_sql(setup, f"setup[{index}]" if by_reference else f"fixtures[{index}].setup", _SETUP)
    if params.reference_query is not None:
        _admit_sql(params.reference_query, "reference_query", _QUERY)
    for index, fixture in enumerate(params.fixtures or []):
        if len(fixture.expect) > MAX_ROWS or len({len(row) for row in fixture.expect}) > 1:
            raise InvalidRequest(f"must be at most {MAX_ROWS} rows of equal length", param=f"fixtures[{index}].expect")
        if not all(map(_holdable, fixture.expect)):
            raise InvalidRequest("has an integer that SQLite cannot hold", param=f"fixtures[{index}].expect")
    if params.fixtures is not None and not any(fixture.expect for fixture in params.fixtures):
        raise InvalidRequest("must expect a row at least once", param="fixtures")


async def run(params: SqlParams, text: str, job: Job, timeout_s: float) -> Judgement:
    """The share of databases on which the rows are right is the score. The tenant's part has its own deadlines."""
    candidate = await job.open()
    ordered = params.ordered
    if params.reference_query is None:
        expected: list[list[Row]] = [list(fixture.expect) for fixture in params.fixtures or []]
    else:
        answered = await _reference(params, params.reference_query, await job.open(), timeout_s)
        if isinstance(answered, Judgement):
            return answered
        expected = answered
        ordered = sorts_its_result(params.reference_query) if ordered is None else ordered
    if (unprepared := await _prepare(params, candidate, timeout_s)) is not None:
        return unprepared
    deadline = asyncio.get_running_loop().time() + timeout_s
    passed, why = 0, ""
    try:
        for index, rows in enumerate(expected):
            kind, found = await _rows(candidate, index, code_of(text), deadline)
            if kind == "rows":
                passed += same_rows(rows, found, ordered=bool(ordered))
            else:
                why = "the query does not run" if kind == "query" else "too many rows"
    except CandidateFailed as error:
        why = str(error)
    if passed == len(expected):
        return PASSED
    detail = f"{passed} of {len(expected)} databases are right"
    return failed(f"{detail}; {why}" if why else detail, passed / len(expected))


async def _prepare(params: SqlParams, box: Box, timeout_s: float) -> Judgement | None:
    """Make the databases in a box, with all of `timeout_s` for it; why they cannot be made."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    try:
        await load(box, _SOURCE.read_text(), deadline)
        made = await call(box, "prepare", [_setups(params)], {}, deadline)
    except CandidateFailed as error:
        if str(error) == OVER_DEADLINE:
            return Judgement(Outcome.TIMEOUT, None, "the setup of a fixture is over its deadline")
        made = False
    return None if made is True else undecided("the setup of a fixture does not run")


async def _reference(params: SqlParams, query: str, box: Box, timeout_s: float) -> list[list[Row]] | Judgement:
    """The rows of the reference query on each database, or why there are none."""
    if (unprepared := await _prepare(params, box, timeout_s)) is not None:
        return unprepared
    deadline = asyncio.get_running_loop().time() + timeout_s
    results: list[list[Row]] = []
    try:
        for index in range(len(_setups(params))):
            kind, found = await _rows(box, index, query, deadline)
            if kind != "rows":
                return undecided("the reference query does not run on every database")
            results.append(found)
    except CandidateEnded as error:
        late = str(error) == OVER_DEADLINE
        outcome = Outcome.TIMEOUT if late else Outcome.ERROR
        return Judgement(outcome, None, "the reference query is over its deadline" if late else "the reference ended")
    except CandidateFailed:
        return undecided("the reference query does not run")
    return results if any(results) else undecided("the reference query returns no row")


async def _rows(box: Box, index: int, query: str, deadline: float) -> tuple[str, list[Row]]:
    answer = await call(box, "rows", [index, query], {}, deadline)
    if isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[1], list):
        kind, rows = answer
        if isinstance(kind, str) and all(isinstance(row, list) and _holdable(row) for row in rows):
            return kind, rows
    raise CandidateFailed("not rows")


def _holdable(row: Row) -> bool:
    """Whether SQLite can hold the integers of a row."""
    return all(not isinstance(cell, int) or -_INT64 <= cell < _INT64 for cell in row)


def same_rows(expected: Sequence[Row], found: Sequence[Row], *, ordered: bool) -> bool:
    """Whether two results are equal as multisets of rows, or as sequences when `ordered`; columns by position.

    NULL equals NULL alone; numbers agree within 1e-6 of their size, whatever their type, and with an expected
    0 within 1e-9; text is compared exactly.
    """
    if len(expected) != len(found):
        return False
    if not ordered:
        expected, found = sorted(expected, key=_sort_key), sorted(found, key=_sort_key)
    return all(
        len(left) == len(right) and all(map(_same_cell, left, right))
        for left, right in zip(expected, found, strict=True)
    )


def _same_cell(expected: Any, found: Any) -> bool:
    if isinstance(expected, int | float) and isinstance(found, int | float):
        if isinstance(expected, int) and isinstance(found, int):
            return expected == found
        return math.isclose(expected, found, rel_tol=_RTOL, abs_tol=0 if expected else _ZERO)
    return type(expected) is type(found) and bool(expected == found)


def _sort_key(row: Row) -> list[tuple[int, float, str]]:
    """NULL before numbers before text, as in SQLite. Numbers by five digits, so that near ones stay neighbours."""
    return [
        (0, 0.0, "")
        if cell is None
        else (1, float(f"{cell:.5g}"), "")
        if isinstance(cell, int | float)
        else (2, 0.0, str(cell))
        for cell in row
    ]


def _setups(params: SqlParams) -> list[str]:
    return [fixture.setup for fixture in params.fixtures] if params.fixtures is not None else params.setup or []


def _admit_sql(sql: str, param: str, allowed: tuple[str, ...]) -> None:
    try:
        found = statements(sql)
    except BadSql as error:
        raise InvalidRequest(str(error), param=param) from error
    if not found or (allowed is _QUERY and len(found) > 1):
        raise InvalidRequest("must be one query" if allowed is _QUERY else "holds no statement", param=param)
    for statement in found:
        kind = tuple(word for word, _ in statement.words[:2])
        if statement.first not in allowed or kind in _KINDS:
            named = " ".join(kind) if kind in _KINDS else statement.first[:40]
            raise InvalidRequest(f"has a statement {named}; allowed: {', '.join(allowed)}", param=param)


TYPE = SandboxedCheck("sql", CheckClass.DECISIVE, "2", SqlParams, admit, run)
