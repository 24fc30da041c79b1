"""`sql` on both tiers: rows, order, who is to blame; and what admission refuses."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from router.enums import Outcome, Tier
from router.errors import InvalidRequest
from router.sandbox.sandbox import Sandbox
from router.verify.check_type import Judgement
from router.verify.checks.sql import SqlParams, run, same_rows
from router.verify.spec import parse_checks
from router.verify.sql_text import sorts_its_result
from tests.support.checking import judge
from tests.support.sandboxes import opened
from tests.support.scripted_boxes import ScriptedJob, value

ONE = "CREATE TABLE t (name TEXT, n INTEGER); INSERT INTO t VALUES ('a', 1), ('b', 2), ('b', 3);"
TWO = "CREATE TABLE t (name TEXT, n INTEGER); INSERT INTO t VALUES ('c', 5), ('a;--', NULL);"
FIXTURES = {
    "type": "sql",
    "fixtures": [{"setup": ONE, "expect": [["a", 1], ["b", 5]]}, {"setup": TWO, "expect": [["c", 5], ["a;--", None]]}],
}
SUMS = "SELECT name, SUM(n) FROM t GROUP BY name"
REFERENCE = {"type": "sql", "setup": [ONE, TWO], "reference_query": f"{SUMS} ORDER BY n DESC, name"}
ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x FROM c) SELECT COUNT(*) FROM c"


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=Tier)
async def sandbox(request: pytest.FixtureRequest) -> AsyncIterator[Sandbox]:
    async with opened(request.param, warm=2) as ready:
        yield ready


VERDICTS: list[tuple[dict[str, Any], str, Outcome, float | None, str]] = [
    (FIXTURES, f"```sql\n{SUMS};\n```", Outcome.PASS, 1.0, ""),
    (FIXTURES, f"{SUMS} ORDER BY 2", Outcome.PASS, 1.0, ""),
    (FIXTURES, "SELECT name, n FROM t", Outcome.FAIL, 0.5, "1 of 2 databases are right"),
    (FIXTURES, "SELECT 'a', 1 UNION SELECT 'b', 5", Outcome.FAIL, 0.5, "1 of 2 databases are right"),
    (FIXTURES, "SELEC", Outcome.FAIL, 0.0, "the query does not run"),
    (FIXTURES, "", Outcome.FAIL, 0.0, "the query does not run"),
    (FIXTURES, "I do not know SQL.", Outcome.FAIL, 0.0, "the query does not run"),
    (FIXTURES, f"{SUMS}; DROP TABLE t", Outcome.FAIL, 0.0, "the query does not run"),
    (FIXTURES, "DELETE FROM t", Outcome.FAIL, 0.0, "the query does not run"),
    (FIXTURES, "ATTACH '/etc/passwd' AS p", Outcome.FAIL, 0.0, "the query does not run"),
    (FIXTURES, "PRAGMA table_info(t)", Outcome.FAIL, 0.0, "the query does not run"),
    (FIXTURES, "SELECT * FROM pragma_table_info('t')", Outcome.FAIL, 0.0, "the query does not run"),
    (FIXTURES, "VACUUM INTO '/tmp/leak'", Outcome.FAIL, 0.0, "the query does not run"),
    (FIXTURES, "SELECT load_extension('/tmp/x')", Outcome.FAIL, 0.0, "the query does not run"),
    (FIXTURES, "SELECT readfile('/etc/passwd')", Outcome.FAIL, 0.0, "the query does not run"),
    (FIXTURES, "SELECT length(randomblob(900000000))", Outcome.FAIL, 0.0, ""),
    (FIXTURES, "SELECT a.n FROM t a, t b, t c, t d, t e, t f, t g, t h", Outcome.FAIL, 0.0, "too many rows"),
    (REFERENCE, f"{SUMS} ORDER BY n DESC, name", Outcome.PASS, 1.0, ""),
    (REFERENCE, f"{SUMS} ORDER BY name", Outcome.FAIL, 0.0, "0 of 2 databases are right"),
    (REFERENCE | {"ordered": False}, f"{SUMS} ORDER BY name", Outcome.PASS, 1.0, ""),
    (REFERENCE | {"reference_query": "SELECT x FROM t"}, SUMS, Outcome.ERROR, None, "does not run"),
    (REFERENCE | {"reference_query": ENDLESS}, SUMS, Outcome.TIMEOUT, None, "over its deadline"),
    (REFERENCE | {"reference_query": "SELECT n FROM t WHERE n > 9"}, SUMS, Outcome.ERROR, None, "returns no row"),
    (REFERENCE | {"setup": [ONE, "CREATE TABLE t (n); INSERT INTO u VALUES (1)"]}, SUMS, Outcome.ERROR, None, ""),
    ({"type": "sql", "fixtures": [{"setup": "INSERT INTO u VALUES (1)", "expect": [[1]]}] * 2}, SUMS, Outcome.ERROR,
     None, "the setup of a fixture does not run"),
    ({"type": "sql", "fixtures": [{"setup": f"CREATE TABLE u AS {ENDLESS}", "expect": [[1]]}] * 2}, SUMS,
     Outcome.TIMEOUT, None, "the setup of a fixture is over its deadline"),
]  # fmt: skip


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("check", "text", "outcome", "score", "detail"), VERDICTS)
async def test_verdicts(
    sandbox: Sandbox, check: dict[str, Any], text: str, outcome: Outcome, score: float | None, detail: str
) -> None:
    found = await judge(sandbox, check, text, timeout_s=0.6 if outcome is Outcome.TIMEOUT else 10.0)
    assert (found.outcome, found.score) == (outcome, score), found.detail
    assert detail in found.detail


LOADED, PREPARED, RIGHT = value(["prepare", "rows"]), value(True), value(("rows", [["a", 1], ["b", 5]]))
SETUP = Judgement(Outcome.TIMEOUT, None, "the setup of a fixture is over its deadline")
BROKEN = Judgement(Outcome.ERROR, None, "the setup of a fixture does not run")
BLAME: list[tuple[dict[str, Any], tuple[list[dict[str, Any]], ...], Judgement]] = [
    (FIXTURES, ([],), SETUP),
    (FIXTURES, ([LOADED],), SETUP),
    (FIXTURES, ([LOADED, {"raised": {"type": "MemoryError", "message": ""}}],), BROKEN),
    (FIXTURES, ([LOADED, value(False)],), BROKEN),
    (FIXTURES, ([LOADED, PREPARED],), Judgement(Outcome.FAIL, 0.0, "0 of 2 databases are right; over its deadline")),
    (FIXTURES, ([LOADED, PREPARED, RIGHT],),
     Judgement(Outcome.FAIL, 0.5, "1 of 2 databases are right; over its deadline")),
    (REFERENCE, ([], [LOADED]), SETUP),
    (REFERENCE, ([], [LOADED, PREPARED, RIGHT]),
     Judgement(Outcome.TIMEOUT, None, "the reference query is over its deadline")),
    (REFERENCE, ([LOADED], [LOADED, PREPARED, RIGHT, RIGHT]), SETUP),
    (REFERENCE, ([LOADED, PREPARED], [LOADED, PREPARED, RIGHT, RIGHT]),
     Judgement(Outcome.FAIL, 0.0, "0 of 2 databases are right; over its deadline")),
]  # fmt: skip


@pytest.mark.parametrize(("check", "scripts", "found"), BLAME)
async def test_a_deadline_is_the_fault_of_whoever_is_working(
    check: dict[str, Any], scripts: tuple[list[dict[str, Any]], ...], found: Judgement
) -> None:
    (spec,) = parse_checks([check], where="checks", default_timeout_s=3.0)
    assert await run(msgspec.convert(spec.params, SqlParams), SUMS, ScriptedJob(*scripts), 0.01) == found


@pytest.mark.parametrize(
    ("expected", "found", "ordered", "equal"),
    [
        ([[1], [2]], [[2], [1]], False, True),
        ([[1], [2]], [[2], [1]], True, False),
        ([[1], [1], [2]], [[1], [2], [2]], False, False),
        ([[1]], [[1], [1]], False, False),
        ([[None]], [[""]], False, False),
        ([[None]], [[0]], False, False),
        ([[2]], [[2.0]], False, True),
        ([[0.3]], [[0.1 + 0.2]], False, True),
        ([[1e9]], [[1e9 + 1]], False, True),
        ([[1e-12], [3e-10]], [[0.0], [0.0]], False, False),
        ([[0.0]], [[1e-10]], False, True),
        ([[10**9]], [[10**9 + 1]], False, False),
        ([[1.0]], [[1.001]], False, False),
        ([["1"]], [[1]], False, False),
        ([["a", 1]], [["a"]], False, False),
        ([[True]], [[1]], False, True),
        ([[0.30000001, "x"], [0.3, "y"]], [[0.3, "x"], [0.3, "y"]], False, True),
        ([], [], False, True),
        ([[None, 1], ["a", None]], [["a", None], [None, 1]], False, True),
    ],
)
def test_rows_are_compared_by_value(expected: Sequence[Any], found: Sequence[Any], ordered: bool, equal: bool) -> None:
    assert same_rows(expected, found, ordered=ordered) is equal


@pytest.mark.parametrize(
    ("query", "sorts"),
    [
        ("SELECT 1 ORDER BY 1", True), ("select n from t order\n by n", True), ("SELECT 1", False),
        ("SELECT * FROM (SELECT 1 ORDER BY 1)", False), ("SELECT ' ORDER BY '", False),
        ("SELECT 1 -- ORDER BY 1", False),
        ("SELECT row_number() OVER (ORDER BY n) FROM t", False), ("SELECT 1 /* ORDER BY */", False),
    ],
)  # fmt: skip
def test_only_a_top_level_order_by_asks_for_order(query: str, sorts: bool) -> None:
    assert sorts_its_result(query) is sorts


def database(setup: str) -> dict[str, Any]:
    return {"fixtures": [{"setup": setup, "expect": [[1]]}] * 2}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "fixtures"),
    ({"fixtures": FIXTURES["fixtures"], "setup": [ONE], "reference_query": SUMS}, "fixtures"),
    ({"setup": [ONE, TWO]}, "fixtures"),
    ({"reference_query": SUMS}, "fixtures"),
    ({"fixtures": [{"setup": ONE, "expect": [[1]]}]}, "fixtures"),
    ({"setup": [ONE], "reference_query": SUMS}, "setup"),
    ({"fixtures": [{"setup": ONE, "expect": []}] * 2}, "fixtures"),
    ({"fixtures": [{"setup": ONE, "expect": [[1], [1, 2]]}] * 2}, "fixtures[0].expect"),
    ({"fixtures": [{"setup": ONE, "expect": [[10**400]]}] * 2}, "fixtures[0].expect"),
    ({"fixtures": [{"setup": ONE, "expect": [[{}]]}] * 2}, "fixtures[0].expect[0][0]"),
    ({**FIXTURES, "dialect": "oracle"}, "dialect"),
    (database(""), "fixtures[0].setup"),
    (database("ATTACH 'x.db' AS x"), "fixtures[0].setup"),
    (database("CREATE TABLE t (n); /* now */ attach 'x.db' AS x"), "fixtures[0].setup"),
    (database("PRAGMA writable_schema = 1"), "fixtures[0].setup"),
    (database("VACUUM INTO 'x'"), "fixtures[0].setup"),
    (database("CREATE VIRTUAL TABLE v USING fts5(x)"), "fixtures[0].setup"),
    (database("CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END"), "fixtures[0].setup"),
    (database(".read /etc/passwd"), "fixtures[0].setup"),
    (database("INSERT INTO t VALUES ('"), "fixtures[0].setup"),
    (database("INSERT INTO t VALUES (1"), "fixtures[0].setup"),
    (database("INSERT INTO t VALUES " + "(" * 5000 + "1" + ")" * 5000), "fixtures[0].setup"),
    (database("INSERT INTO t VALUES (" + "'" * 9001), "fixtures[0].setup"),
    (database("SELECT 1"), "fixtures[0].setup"),
    (database("CREATE TABLE t (n);" * 2000), "fixtures[0].setup"),
    ({"setup": [ONE, TWO], "reference_query": "DELETE FROM t"}, "reference_query"),
    ({"setup": [ONE, TWO], "reference_query": "SELECT 1; SELECT 2"}, "reference_query"),
]


@pytest.mark.parametrize(("fields", "param"), REFUSED)
def test_bad_sql_is_refused_at_once(fields: dict[str, Any], param: str) -> None:
    started = time.process_time()
    with pytest.raises(InvalidRequest) as caught:
        parse_checks([{"type": "sql", **fields}], where="checks", default_timeout_s=3.0)
    assert time.process_time() - started < 0.5  # of the processor; 50 ms on a quiet machine: see the bench
    assert caught.value.param == f"checks[0].{param}"
