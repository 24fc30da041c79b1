"""The truth tables through one pool of real workers: the bars of issue 4 hold, and what is recorded is current."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import msgspec
import pytest
import pytest_asyncio
from referencing import Registry

from gateway.bench.judging import REFUSED, Found, judged
from gateway.bench.seconds import seconds_of
from gateway.bench.truth import GAMING, Fact, Part, load_truth
from gateway.bench.verifiers import accepted_gaming, errors_of
from gateway.telemetry.metrics import Metrics
from router.enums import CheckClass
from router.errors import ConfigError
from router.verify.measured import MeasuredRate, measured_rates
from router.verify.pure import PURE_TYPES
from router.verify.registry import CHECK_TYPES
from router.verify.second.registry import PREFIX, SECOND_TYPES
from router.verify.second.sandboxed import SECOND_SANDBOXED

TRUTH = Path(__file__).parents[3] / "golden" / "verifiers" / "truth"
# `bench verifiers` runs all facts. Here it is every so manieth: a worker is replaced after 100 jobs, and starts in 2 s.
STRIDES = {  # odd: right and wrong answers alternate in some tables
    "math": 21, "json_schema": 11, "numeric": 11, "arithmetic_steps": 9, "choice": 7, "exact": 5, "regex": 5,
    "constraints": 5, "sql": 9, "python_tests": 61, "python_outputs": 61,
}  # fmt: skip

pytestmark = pytest.mark.asyncio(loop_scope="module")


def sampled(facts: list[Fact]) -> list[Fact]:
    by_table: dict[str, list[Fact]] = {}
    for fact in facts:
        by_table.setdefault(fact.table, []).append(fact)
    return [fact for table, rows in by_table.items() for fact in rows[:: STRIDES.get(table, 1)]]


@pytest.fixture(scope="module")
def facts() -> list[Fact]:
    return load_truth(TRUTH)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def found(facts: list[Fact]) -> list[Found]:
    return await judged(sampled(facts), workers=2)


async def test_no_gaming_text_is_accepted(found: list[Found]) -> None:
    assert sum(each.fact.table == GAMING for each in found) >= 200
    assert accepted_gaming(found) == []


async def test_right_and_wrong_answers_are_among_them(found: list[Found]) -> None:
    for table in {each.fact.table for each in found} - {GAMING}:
        assert {"pass", "fail"} <= {each.fact.expect for each in found if each.fact.table == table}


async def test_false_accepts_and_false_rejects_are_within_their_bars(found: list[Found]) -> None:
    for errors in errors_of(found):
        if CHECK_TYPES[errors.check].klass is CheckClass.SOFT:
            continue  # a way to vote: its rates are reported, and no bar holds it
        assert errors.false_accepts.successes == 0, errors
        assert (errors.false_rejects.value or 0.0) <= 0.05, errors


async def test_schemas_are_judged_exactly_as_by_the_python_implementation(facts: list[Fact]) -> None:
    check, compared = PURE_TYPES["json_schema"], 0
    for fact in facts:
        if (
            fact.table != "json_schema" or fact.spec is None or not fact.source.startswith("draft")
        ):  # asserts no formats
            continue
        schema = fact.spec.params["schema"]
        old = isinstance(schema, dict) and "draft-07" in schema.get("$schema", "")
        kind = jsonschema.Draft7Validator if old else jsonschema.Draft202012Validator
        valid = kind(schema, registry=Registry()).is_valid(json.loads(fact.text))
        found = check.run(msgspec.convert(fact.spec.params, check.params), fact.text)
        assert found.outcome == ("pass" if valid else "fail") == fact.expect, fact
        compared += 1
    assert compared > 1800


async def test_rewritten_programs_vote_together_and_second_verifiers_read_what_their_checks_read(
    found: list[Found],
) -> None:
    rewritten = [each.outcome for each in found if "rewritten" in each.fact.source]
    assert rewritten and set(rewritten) <= {"pass", "skipped"}
    assert {each.fact.table for each in found if each.second is not None} - {GAMING} == {
        name.removeprefix(PREFIX) for name in (*SECOND_TYPES, *SECOND_SANDBOXED)
    }
    for seconds in seconds_of(found):
        assert seconds.check == "sql" or seconds.disputes.successes == 0, seconds


async def test_second_verifiers_are_counted_against_verdict_and_truth() -> None:
    def each(expect: str, outcome: str, second: str) -> Found:
        return Found(Fact("numeric", Part.REPORTED, None, "", expect, "own"), outcome, second)

    said = [("pass", "pass", "pass"), ("pass", "pass", "fail"), ("pass", "pass", "error"), ("pass", "fail", "fail")]
    (seconds,) = seconds_of(each(*words) for words in [*said, ("fail", "fail", "pass"), ("fail", "error", "error")])
    assert (seconds.agreements.successes, seconds.agreements.n) == (2, 4)
    assert (seconds.disputes.successes, seconds.disputes.n, seconds.disputes_undecided) == (1, 3, 1)
    assert (seconds.false_accepts.successes, seconds.false_accepts.n, seconds.negatives_undecided) == (1, 2, 1)


async def test_there_are_negatives_enough_for_the_bar_on_math(facts: list[Fact]) -> None:
    negatives = [f for f in facts if f.table == "math" and f.expect == "fail" and f.spec is not None]
    for part in Part:
        assert sum(fact.part is part for fact in negatives) >= 600


async def test_the_recorded_rates_are_of_the_checks_as_they_are(facts: list[Fact]) -> None:
    rates = measured_rates()
    decisive = {name for name, kind in CHECK_TYPES.items() if kind.klass is CheckClass.DECISIVE}
    assert {fact.table for fact in facts} - {GAMING} <= rates.keys() and decisive - {"command"} <= rates.keys()
    assert {name: rate.version for name, rate in rates.items()} == {name: CHECK_TYPES[name].version for name in rates}
    assert rates["math"].negatives >= 600
    assert rates["math"].false_accepts <= 0.005 * rates["math"].negatives
    assert rates["math"].false_rejects <= 0.05 * rates["math"].positives


async def test_the_rates_are_shown_with_their_bound() -> None:
    metrics = Metrics()
    metrics.set_measured({"math": MeasuredRate("2", 600, 0, 100, 2), "regex": MeasuredRate("1", 0, 0, 0, 0)})
    text = metrics.render()[0].decode()
    assert 'thinktwice_verifier_false_accept_ratio{bound="estimate",verifier="math"} 0.0' in text
    upper = next(line for line in text.splitlines() if "false_accept" in line and 'bound="upper"' in line)
    assert float(upper.split()[-1]) == pytest.approx(1 - 0.05 ** (1 / 600), rel=1e-6)
    assert 'verifier="regex"' not in "".join(line for line in text.splitlines() if "_ratio{" in line)


async def test_what_is_refused_or_undecided_is_no_error_of_the_check() -> None:
    def fact(expect: str) -> Fact:
        return Fact("numeric", Part.REPORTED, None, "", expect, "own")

    found = [
        Found(fact(expect), outcome)
        for expect, outcome in (
            ("pass", "pass"), ("pass", "fail"), ("pass", "error"), ("pass", REFUSED),
            ("fail", "fail"), ("fail", "pass"), ("fail", "timeout"), ("refused", "pass"),
        )
    ]  # fmt: skip
    (errors,) = errors_of(found)
    assert (errors.false_accepts.successes, errors.false_accepts.n) == (1, 3)
    assert (errors.false_rejects.successes, errors.false_rejects.n) == (1, 3)
    assert (errors.undecided, errors.refused) == (2, 1)


async def test_tables_that_cannot_be_used_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give --truth"):
        load_truth(tmp_path)
    (tmp_path / "numeric.jsonl").write_text('{"reference": 1, "text": "1"}\n')
    with pytest.raises(ConfigError, match="line 1"):
        load_truth(tmp_path)
