"""The second verifier of `sql`: the query against the reference on databases that nobody wrote down.

Each fixture has neighbours: a row dropped, a row doubled, a cell made NULL. Rows that nothing sorts come backwards.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from router.enums import Outcome
from router.sandbox import inside
from router.sandbox.box import Box
from router.sandbox.sandbox import Job
from router.verify.candidate import OVER_DEADLINE, CandidateEnded, CandidateFailed, call, code_of, load
from router.verify.check_type import PASSED, Judgement, failed, undecided
from router.verify.checks.sql import SqlParams

_SOURCE = Path(inside.__file__).parent / "neighbours.py"
_SORTED = re.compile(r"\border\s+by\b[^)]*\Z", re.IGNORECASE)
_TOLERANCE = 1e-6
_MAX_NEAR = 64  # rows a side that are not equal to the letter; each is held against each

Rows = list[tuple[Any, ...]]


class _SetupFailed(CandidateFailed):
    """It is the tenant's, and nothing is known of the candidate."""


class _Database(NamedTuple):
    setup: str
    change: str
    rows: Rows
    ordered: bool


async def run(params: SqlParams, text: str, job: Job, timeout_s: float) -> Judgement:
    """Pass when the rows are right everywhere. The reference has a deadline of its own, as in the check."""
    clock = asyncio.get_running_loop().time
    candidate = await job.open()
    try:
        databases = await _expected(params, await job.open(), clock() + timeout_s) if params.setup else _given(params)
    except CandidateFailed:
        return undecided("the second verifier cannot judge")
    if not databases:
        return undecided("the reference is right in more than one way")
    deadline = clock() + timeout_s
    try:
        await load(candidate, _SOURCE.read_text(), deadline)
        for setup, change, rows, ordered in databases:
            found = await _answer(candidate, setup, change, code_of(text), params.setup is not None, deadline)
            if found is None or not agree(rows, found, ordered=ordered):
                return failed("the second verifier does not accept the answer")
    except _SetupFailed:
        return undecided("the setup of a fixture does not run")
    except CandidateEnded as error:
        if str(error) == OVER_DEADLINE:
            return Judgement(Outcome.TIMEOUT, None, "the neighbours are over the deadline")
        return failed("its process ended")
    except CandidateFailed:
        return failed("the query's result cannot be read")
    return PASSED


def agree(expected: Rows, found: Rows, *, ordered: bool) -> bool:
    """Whether two results hold the same rows, each as often, in the same order if `ordered`; numbers within 1e-6."""
    if ordered:
        return len(expected) == len(found) and all(map(_near, expected, found))
    missing, extra = Counter(expected), Counter(found)
    short, over = list((missing - extra).elements()), list((extra - missing).elements())
    if len(short) != len(over) or len(short) > _MAX_NEAR:
        return False
    for row in short:
        match = next((other for other in over if _near(row, other)), None)
        if match is None:
            return False
        over.remove(match)
    return True


def _near(row: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    return len(row) == len(other) and all(map(_near_cell, row, other))


def _near_cell(cell: Any, other: Any) -> bool:
    if cell == other:
        return True
    if not (isinstance(cell, float | int) and isinstance(other, float | int)) or type(cell) is type(other) is int:
        return False
    try:
        return abs(cell - other) <= _TOLERANCE * (abs(cell) or _TOLERANCE)
    except OverflowError:  # an integer that is no float
        return False


def _given(params: SqlParams) -> list[_Database]:
    return [
        _Database(fixture.setup, "", [tuple(row) for row in fixture.expect], bool(params.ordered))
        for fixture in params.fixtures or []
    ]


async def _expected(params: SqlParams, box: Box, deadline: float) -> list[_Database]:
    """The reference's rows on each fixture and its neighbours, where they do not hang on the order of storage.

    Raises `CandidateFailed` where there are none.
    """
    query = params.reference_query or ""
    sorts = bool(_SORTED.search(query)) if params.ordered is None else params.ordered
    databases: list[_Database] = []
    await load(box, _SOURCE.read_text(), deadline)
    for setup in params.setup or []:
        for change in ("", *await _changes(box, setup, deadline)):
            rows = await _answer(box, setup, change, query, False, deadline)
            backwards = await _answer(box, setup, change, query, True, deadline)
            if rows is not None and backwards is not None and agree(rows, backwards, ordered=False):
                databases.append(_Database(setup, change, rows, sorts and rows == backwards))
            elif not change:  # nor would its neighbours tell more
                break
    return databases


async def _changes(box: Box, setup: str, deadline: float) -> list[str]:
    """What makes each neighbour of a fixture. Raises `CandidateFailed`."""
    found = await call(box, "changes", [setup], {}, deadline)
    if isinstance(found, list) and all(isinstance(change, str) for change in found):
        return found
    raise CandidateFailed("not changes")


async def _answer(box: Box, setup: str, change: str, query: str, backwards: bool, deadline: float) -> Rows | None:
    """The rows of a query; None where it does not run. Raises `CandidateFailed`."""
    found = await call(box, "answer", [setup, change, query, backwards], {}, deadline)
    if found is None:
        return None
    if found == "setup":
        raise _SetupFailed
    if isinstance(found, list) and all(isinstance(row, list) and all(map(_is_cell, row)) for row in found):
        return [tuple(row) for row in found]
    raise CandidateFailed("not rows")


def _is_cell(cell: Any) -> bool:
    """What SQLite returns; a BLOB is a pair of texts."""
    parts: Sequence[Any] = cell if isinstance(cell, tuple) else (cell,)
    return all(part is None or isinstance(part, int | float | str) for part in parts)
