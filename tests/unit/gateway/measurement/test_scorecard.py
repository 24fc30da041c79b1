"""The scorecard's arithmetic, by hand-made requests."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from gateway.telemetry.savings import Savings
from gateway.telemetry.scorecard import Scorecard
from gateway.telemetry.served import Served
from router.domain import Tokens
from router.enums import Outcome, Route, Status
from router.records import GroupRecord
from router.stats import wilson

UNKNOWN = {"value": None, "n": 0, "low": None, "high": None}


def priced(model: str, tokens: Tokens) -> float | None:
    """One dollar a token."""
    return float(tokens.prompt + tokens.completion)


def unpriced(model: str, tokens: Tokens) -> float | None:
    return None


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def scorecard(clock: Clock) -> Scorecard:
    return Scorecard(unpriced, clock)


def leaves(value: Any, path: str = "") -> dict[str, dict[str, Any]]:
    """Every estimate in the report, by path."""
    if not isinstance(value, dict):
        return {}
    if {"value", "n", "low", "high"} <= value.keys():
        return {path: value}
    return {name: leaf for key, each in value.items() for name, leaf in leaves(each, f"{path}/{key}").items()}


def test_an_empty_scorecard_claims_nothing(scorecard: Scorecard, clock: Clock) -> None:
    report = scorecard.report()
    estimates = leaves(report)
    assert len(estimates) > 20
    assert all(each["value"] is None and each["n"] == 0 for each in estimates.values())
    clock.now += 60
    assert leaves(scorecard.report())["/throughput_per_minute"]["value"] == 0
    json.dumps(report, allow_nan=False)


def test_solve_rate_counts_only_requests_with_a_decisive_check(
    scorecard: Scorecard, make_served: Callable[..., Served]
) -> None:
    for _ in range(3):
        scorecard.record(make_served(Status.VERIFIED))
    scorecard.record(make_served(Status.FAILED))
    scorecard.record(make_served(Status.CONSENSUS, checked=False))
    rate = scorecard.report()["solve_rate"]
    expected = wilson(3, 4)
    assert rate == {"value": 0.75, "successes": 3, "n": 4, "low": expected.low, "high": expected.high}


def test_tokens_and_cost_per_solved(scorecard: Scorecard, make_served: Callable[..., Served]) -> None:
    scorecard.record(make_served(Status.VERIFIED, tokens=Tokens(10, 20), cost=0.3))
    scorecard.record(make_served(Status.FAILED, tokens=Tokens(10, 50), cost=0.5))
    report = scorecard.report()
    assert report["tokens_per_solved"]["value"] == 90
    assert report["cost_per_solved_usd"]["value"] == pytest.approx(0.8)
    assert report["tokens_per_solved"]["n"] == 2
    assert report["cost_usd"] == {"value": 0.8, "unpriced": 0}


def test_cost_is_unknown_without_prices(scorecard: Scorecard, make_served: Callable[..., Served]) -> None:
    scorecard.record(make_served(Status.VERIFIED, cost=None))
    report = scorecard.report()
    assert report["cost_per_solved_usd"] == UNKNOWN
    assert report["cost_usd"] == {"value": None, "unpriced": 1}
    scorecard.record(make_served(Status.VERIFIED, Route.CACHE, cost=0.0))  # a cached answer is free, solving is not
    assert scorecard.report()["cost_per_solved_usd"] == UNKNOWN


def test_routes_statuses_and_samples(
    scorecard: Scorecard, make_served: Callable[..., Served], make_group: Callable[..., GroupRecord]
) -> None:
    scorecard.record(make_served(route=Route.CACHE, samples=3))
    scorecard.record(make_served(route=Route.SINGLE, samples=1, group=make_group("pass")))
    scorecard.record(make_served(Status.FAILED, Route.VOTE, samples=5, group=make_group(*["fail"] * 5)))
    report = scorecard.report()
    assert {route: each["successes"] for route, each in report["routes"].items()} == {
        "cache": 1,
        "single": 1,
        "vote": 1,
    }
    assert report["statuses"]["failed"]["value"] == pytest.approx(1 / 3)
    assert report["samples"] == {"1": 1, "2": 0, "3": 0, "4": 0, "5": 1}  # what the cache returned was drawn before
    assert report["verifiers"]["numeric"]["outcomes"] == {"pass": 1, "fail": 5, "error": 0, "timeout": 0, "skipped": 0}
    assert report["verifiers"]["numeric"]["pass_rate"]["n"] == 6


def test_errors_of_verifiers_are_no_failures(
    scorecard: Scorecard, make_served: Callable[..., Served], make_group: Callable[..., GroupRecord]
) -> None:
    scorecard.record(make_served(group=make_group("pass", "error", "timeout")))
    assert scorecard.report()["verifiers"]["numeric"]["pass_rate"]["n"] == 1


def test_refusals_and_errors(scorecard: Scorecard, make_served: Callable[..., Served]) -> None:
    scorecard.record(make_served(Status.FAILED, refused=True))
    scorecard.record(make_served())
    scorecard.record_error(503)
    scorecard.record_error(503)
    requests = scorecard.report()["requests"]
    assert requests["answered"] == 2
    assert requests["refused"]["value"] == 0.5
    assert (requests["errors"]["successes"], requests["errors"]["n"]) == (2, 4)
    assert requests["errors_by_code"] == {"503": 2}


def test_cache_hit_rate(scorecard: Scorecard) -> None:
    scorecard.record_lookup(True)
    scorecard.record_lookup(False)
    scorecard.record_lookup(False)
    rate = scorecard.report()["cache"]["hit_rate"]
    assert (rate["successes"], rate["n"]) == (1, 3)


def test_latency_and_throughput(scorecard: Scorecard, clock: Clock, make_served: Callable[..., Served]) -> None:
    for index in range(1, 101):
        scorecard.record(make_served(duration_s=index / 100))
    clock.now += 120
    report = scorecard.report()
    assert report["latency_seconds"]["p50"]["value"] == pytest.approx(0.5, rel=0.02)
    assert report["latency_seconds"]["p95"]["value"] == pytest.approx(0.95, rel=0.02)
    assert report["throughput_per_minute"]["value"] == 50
    assert report["window"] == {"since": 1000.0, "seconds": 120.0}


def test_memory_does_not_grow_with_traffic(
    scorecard: Scorecard, make_served: Callable[..., Served], make_group: Callable[..., GroupRecord]
) -> None:
    group = make_group("pass", "fail")
    for index in range(2000):
        scorecard.record(make_served(duration_s=index * 0.37, group=group, cost=index * 1e-6))
    assert len(json.dumps(scorecard.report())) < 8000


class TestSavings:
    def test_without_audits_nothing_is_claimed_and_the_reason_is_given(self) -> None:
        report = Savings(priced).report()
        for name in ("always_1", "always_5"):
            assert report[name]["tokens_saved"] == UNKNOWN
            assert report[name]["cost_saved"] == UNKNOWN
            assert "no audited group" in report[name]["reason"]

    def test_a_full_group_prices_both_baselines(self, make_group: Callable[..., GroupRecord]) -> None:
        savings = Savings(priced)
        savings.record(make_group("fail", "pass", "fail", "pass", "fail", tokens=10, prompt=20, audit=True))
        report = savings.report()
        assert report["always_1"]["solve_rate"]["value"] == 0.0
        assert report["always_1"]["tokens_per_solved"]["value"] is None
        assert report["always_5"]["solve_rate"]["value"] == 1.0
        assert report["always_5"]["tokens_per_solved"]["value"] == 70
        assert report["always_5"]["cost_per_solved_usd"]["value"] == 70
        assert "left to the router" in report["always_5"]["reason"]

    def test_saving_against_always_five(self, make_group: Callable[..., GroupRecord]) -> None:
        savings = Savings(priced)
        for _ in range(20):
            savings.record(make_group("pass", "pass", "fail", "pass", "pass", audit=True, group_propensity=0.1))
            savings.record(make_group("pass", cost_usd=30.0))
            savings.record(make_group("fail", "pass", cost_usd=40.0))
        report = savings.report()
        assert report["adaptive"]["solve_rate"]["n"] == 40
        assert report["adaptive"]["tokens_per_solved"]["value"] == 35
        assert report["always_1"]["tokens_saved"]["value"] == pytest.approx(1 - 35 / 30)
        saved = report["always_5"]["tokens_saved"]
        assert saved["value"] == pytest.approx(0.5)
        assert saved["low"] < 0.5 < saved["high"]
        assert report["always_5"]["cost_saved"]["value"] == pytest.approx(0.5)
        assert report["always_5"]["reason"] is None

    def test_the_oracle_draws_the_smallest_count_that_solves(self, make_group: Callable[..., GroupRecord]) -> None:
        savings = Savings(priced)
        savings.record(make_group("fail", "pass", "fail", "pass", "fail", tokens=10, prompt=20, audit=True))
        assert savings.report()["oracle"]["tokens_per_solved"]["value"] == 40
        savings.record(make_group("fail", "fail", "fail", "fail", "fail", tokens=10, prompt=20, audit=True))
        report = savings.report()["oracle"]
        assert (report["solve_rate"]["value"], report["tokens_per_solved"]["value"]) == (0.5, 70)

    def test_regret_is_what_the_oracle_would_have_saved(self, make_group: Callable[..., GroupRecord]) -> None:
        savings = Savings(priced)
        for _ in range(20):
            savings.record(make_group("fail", "pass", "fail", "pass", "fail", audit=True, group_propensity=0.1))
            savings.record(make_group("fail", "fail", "pass", cost_usd=50.0))
        saved = savings.report()["oracle"]["tokens_saved"]
        assert saved["value"] == pytest.approx(1 - 50 / 40) and saved["high"] <= 0

    def test_without_prices_tokens_are_still_compared(self, make_group: Callable[..., GroupRecord]) -> None:
        savings = Savings(unpriced)
        savings.record(make_group(*["pass"] * 5, audit=True))
        savings.record(make_group("pass"))
        report = savings.report()["always_5"]
        assert report["cost_saved"] == UNKNOWN
        assert report["tokens_saved"]["value"] == pytest.approx(1 - 30 / 70)

    @pytest.mark.parametrize(
        "outcomes",
        [
            ("pass", "fail", "fail"),  # not full
            ("fail", "error", "fail", "fail", "fail"),  # nobody knows what its second sample was
            ("error", "pass", "pass", "pass", "pass"),  # always-1 is unknown, so both baselines leave it out
            ("fail", "fail", "fail", "fail", "timeout"),
        ],
    )
    def test_a_group_that_leaves_it_open_is_in_no_baseline(
        self, make_group: Callable[..., GroupRecord], outcomes: tuple[str, ...]
    ) -> None:
        savings = Savings(priced)
        savings.record(make_group(*outcomes, audit=True))
        report = savings.report()
        assert report["always_1"]["solve_rate"]["n"] == report["always_5"]["solve_rate"]["n"] == 0

    def test_a_group_without_token_ids_is_in_no_baseline(self, make_group: Callable[..., GroupRecord]) -> None:
        savings = Savings(priced)
        savings.record(make_group(*["pass"] * 5, audit=True, prompt_token_ids=None))
        assert savings.report()["always_5"]["solve_rate"]["n"] == 0

    def test_a_sample_cut_off_by_a_pass_does_not_leave_it_open(self, make_group: Callable[..., GroupRecord]) -> None:
        savings = Savings(priced)
        savings.record(make_group("pass", "cut"))
        savings.record(make_group("fail", "cut"))
        savings.record(make_group("fail", "error"))
        rate = savings.report()["adaptive"]["solve_rate"]
        assert (rate["successes"], rate["n"]) == (1, 2)

    def test_requests_outside_the_lottery_are_in_no_arm(self, make_group: Callable[..., GroupRecord]) -> None:
        savings = Savings(priced)
        savings.record(make_group("pass", group_propensity=1.0))
        assert savings.report()["adaptive"]["solve_rate"]["n"] == 0

    def test_a_failed_required_check_is_not_solved(self, make_group: Callable[..., GroupRecord]) -> None:
        group = make_group("pass")
        sample = group.samples[0]
        veto = msgspec.structs.replace(sample.checks[0], id="c1", klass="soft", outcome=Outcome.FAIL)
        vetoed = msgspec.structs.replace(sample, checks=(*sample.checks, veto))
        savings = Savings(priced)
        savings.record(msgspec.structs.replace(group, samples=(vetoed,)))
        rate = savings.report()["adaptive"]["solve_rate"]
        assert (rate["successes"], rate["n"]) == (0, 1)
