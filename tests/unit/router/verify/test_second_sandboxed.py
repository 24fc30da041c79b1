"""The second verifiers of `python_tests` and `sql`: they see what one run and the written fixtures cannot show."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from router.enums import Outcome, Tier
from router.errors import InvalidRequest
from router.sandbox.sandbox import Sandbox
from router.settings import SandboxSection, VerifySection
from router.verify.second.python_tests import equal
from router.verify.second.registry import PREFIX
from router.verify.second.sandboxed import SECOND_SANDBOXED
from router.verify.second.sql import agree
from router.verify.spec import parse_checks
from router.verify.verifier import open_verifier
from router.verify.versions import other_version
from tests.support.checking import judge
from tests.support.sandboxes import launcher_or_skip, opened

TRUTH = Path(__file__).parents[3] / "golden" / "verifiers" / "truth" / "sql.jsonl"
PASS, FAIL, ERROR, TIMEOUT = Outcome.PASS, Outcome.FAIL, Outcome.ERROR, Outcome.TIMEOUT
HIGH = "CREATE TABLE emp (id INTEGER PRIMARY KEY, name TEXT NOT NULL, pay INTEGER); INSERT INTO emp VALUES "
ONE, TWO = f"{HIGH} (1, 'Ann', 50), (2, 'Bob', 70), (3, 'Cid', 90);", f"{HIGH} (4, 'Dee', 20), (5, 'Eve', 60);"
NAMES = "SELECT name FROM emp WHERE pay > 45"
BEST = "SELECT name FROM emp ORDER BY pay DESC, id LIMIT 1"
ADD = [{"args": [1, 2], "expect": 3}, {"args": [2, 2], "expect": 4}, {"args": [5, 5], "expect": 10}]
CACHED = "seen = []\ndef add(a, b):\n    seen.append(a)\n    return a + b if seen == sorted(seen) else 0"
COUNTED = "calls = 0\ndef add(a, b):\n    global calls\n    calls += 1\n    return [3, 4, 10][calls - 1]"
ASSERTS = (
    "def check(candidate):\n    assert candidate(1, b=2) == 3\n    assert 4.0 == candidate(2, 2), 'no'\n"
    "    assert candidate(2 * 3, 4) == 5 + 5\n    assert (True)\n    'said'\nMETADATA = {'by': 'us'}\ncheck(add)"
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox() -> AsyncIterator[Sandbox]:
    async with opened(Tier.LANDLOCK, warm=2) as ready:
        yield ready


in_sandbox = pytest.mark.asyncio(loop_scope="module")


def by_reference(query: str, **more: Any) -> dict[str, Any]:
    return {"type": "sql", "setup": [ONE, TWO], "reference_query": query, **more}


def python(code: str | None = None, **more: Any) -> dict[str, Any]:
    return {"type": "python_tests", "entry": "add", **({"code": code} if code else {"cases": ADD}), **more}


GIVEN = {"type": "sql", "fixtures": [{"setup": ONE, "expect": [["Bob"], ["Cid"]]}, {"setup": TWO, "expect": []}]}

BROKEN = {"type": "sql", "fixtures": [{"setup": "INSERT INTO missing VALUES (1)", "expect": [[1]]}] * 2}


@in_sandbox
@pytest.mark.parametrize(
    ("check", "text", "first", "second"),
    [
        (by_reference(NAMES), f"```sql\n{NAMES} ORDER BY id DESC\n```", PASS, PASS),
        (by_reference(BEST), "SELECT name FROM emp ORDER BY pay DESC LIMIT 1", PASS, PASS),
        (by_reference(BEST), "SELECT name FROM emp WHERE id = (SELECT MAX(id) FROM emp)", PASS, FAIL),
        (by_reference(NAMES), "SELECT name FROM emp WHERE pay >= 50", PASS, PASS),  # no neighbour lies between
        (by_reference(NAMES), "SELECT DISTINCT name FROM emp WHERE pay > 45", PASS, FAIL),
        (by_reference("SELECT AVG(pay) FROM emp"), "SELECT SUM(pay) * 1.0 / COUNT(*) FROM emp", PASS, FAIL),
        (by_reference("SELECT AVG(pay) FROM emp"), "SELECT SUM(pay) * 1.0 / COUNT(pay) FROM emp", PASS, PASS),
        (by_reference("SELECT name FROM emp LIMIT 1", setup=[ONE, ONE]), "SELECT name FROM emp LIMIT 1", PASS, ERROR),
        (GIVEN, "SELECT name FROM emp WHERE pay > 65", PASS, PASS),
        (GIVEN, "SELECT name FROM emp WHERE pay > 85", FAIL, FAIL),
        (GIVEN, "DROP TABLE emp", FAIL, FAIL),
        (BROKEN, "SELECT name FROM emp", ERROR, ERROR),
        (python(), "def add(a, b): return a + b", PASS, PASS),
        (python(), "def add(a, b): return a - b", FAIL, FAIL),
        (python(), COUNTED, PASS, FAIL),
        (python(), CACHED, PASS, FAIL),
        (python(cases=[{"expect": 1}, {"expect": 2}]), "n = 0\ndef add():\n global n\n n += 1\n return n", PASS, ERROR),
        (python(ASSERTS), "def add(a, b): return a + b", PASS, PASS),
        (python(ASSERTS), "def add(a, b): return a + b if a < 6 else 0", FAIL, FAIL),
        (python(f"{ASSERTS}\nassert abs(add(0, 0)) < 1"), "def add(a, b): return a + b", PASS, ERROR),
        (python("assert add(1, 1) is True"), "def add(a, b): return 1", FAIL, FAIL),
        (python("assert add(1, 1) == [2][0]"), "def add(a, b): return a + b", PASS, ERROR),
        (python("add = abs\nassert add(-1) == 1"), "def add(a): return a", PASS, ERROR),
    ],
)
async def test_beside_the_check(
    sandbox: Sandbox, check: dict[str, Any], text: str, first: Outcome, second: Outcome
) -> None:
    found = await judge(sandbox, check, text), await judge(sandbox, check, text, second=True)
    assert (found[0].outcome, found[1].outcome) == (first, second), found


@in_sandbox
async def test_what_it_refuses_of_the_truth_table_means_something_else(sandbox: Sandbox) -> None:
    rows = [json.loads(line) for line in TRUTH.read_text(encoding="utf-8").splitlines()]
    right = [row for row in rows if row["expect"] == "pass"][2::4]
    refused = []
    for row in right:
        fields = {key: value for key, value in row.items() if key not in ("text", "expect", "source", "why")}
        found = await judge(sandbox, {"type": "sql", **fields}, row["text"], second=True)
        refused += [row["text"]] if found.outcome is not PASS else []
    assert len(right) == 8
    assert ["DISTINCT" in text or "NOT EXISTS" in text for text in refused] == [True, True], refused


@in_sandbox
@pytest.mark.parametrize(
    ("check", "text"),
    [
        (python(), "def add(a, b):\n    while True: pass"),
        (GIVEN, "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x FROM c) SELECT COUNT(*) FROM c"),
    ],
)
async def test_a_deadline_is_no_disagreement(sandbox: Sandbox, check: dict[str, Any], text: str) -> None:
    assert (await judge(sandbox, check, text, 0.5, second=True)).outcome is TIMEOUT


async def test_the_verifier_runs_them_and_no_request_can_name_them() -> None:
    launcher_or_skip(Tier.LANDLOCK)
    (check,) = parse_checks([python()], where="checks", default_timeout_s=3.0)
    kind = SECOND_SANDBOXED[f"{PREFIX}python_tests"]
    with pytest.raises(InvalidRequest):
        parse_checks([python() | {"type": kind.name}], where="checks", default_timeout_s=3.0)
    async with open_verifier(VerifySection(workers=1), SandboxSection(warm=1)) as verifier:
        asked = other_version(check)
        assert asked is not None
        assert verifier.available([asked])
        (result,) = await verifier.verify([asked], COUNTED)
    assert (result.type, result.outcome, result.version) == ("python_tests", FAIL, f"second-{kind.version}")


@pytest.mark.parametrize(
    ("expected", "value", "same"),
    [
        ([1, {"a": 2.0}], (1, {"a": 2}), True),
        (0.3, 0.1 + 0.2, True),
        (1, True, False),
        (1, 1.0, False),
        (1.0, True, False),
        (1.0, 10**400, False),
        (6.626e-34, 0.0, False),
        (5e-324, 1e-13, False),
        (0.0, 1e-13, True),
        ([], {}, False),
        ([[1], 2], [[1, 2]], False),
        ({"1": 1}, {1: 1}, False),
        (None, 0, False),
    ],
)
def test_equality_of_values(expected: Any, value: Any, same: bool) -> None:
    assert equal(expected, value) is same


@pytest.mark.parametrize(
    ("expected", "found", "ordered", "same"),
    [
        ([(1, "a"), (2, None)], [(2.0, None), (1, "a")], False, True),
        ([(1, "a"), (2, None)], [(2.0, None), (1, "a")], True, False),
        ([(1,), (1,), (2,)], [(1,), (2,), (2,)], False, False),
        ([(1 / 3,), (0.5,)], [(0.5,), (0.333333333,)], False, True),
        ([(3e-13,)], [(0.0,)], False, False),
        ([(1,)], [("1",)], False, False),
        ([(None,)], [("",)], False, False),
        ([(1.0,)], [(10**400,)], False, False),
        ([(1,)], [(1, 1)], False, False),
        ([(10**17,)], [(10**17 + 1,)], False, False),
    ],
)
def test_equality_of_results(
    expected: list[tuple[Any, ...]], found: list[tuple[Any, ...]], ordered: bool, same: bool
) -> None:
    assert agree(expected, found, ordered=ordered) is same
