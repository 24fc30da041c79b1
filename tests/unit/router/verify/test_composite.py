from __future__ import annotations

import pytest

from router.domain import CheckResult, CheckSpec, Verdict
from router.enums import CheckClass, Outcome
from router.verify.composite import compose


def spec(
    check_id: str, *, required: bool = True, weight: float = 1.0, klass: CheckClass = CheckClass.DECISIVE
) -> CheckSpec:
    return CheckSpec(check_id, "numeric", klass, "1", required, weight, 3.0, {})


def result(check_id: str, outcome: Outcome, score: float | None = None) -> CheckResult:
    if score is None and outcome in (Outcome.PASS, Outcome.FAIL):
        score = 1.0 if outcome is Outcome.PASS else 0.0
    return CheckResult(check_id, "numeric", CheckClass.DECISIVE, outcome, score, 1.0, "1")


def test_all_pass() -> None:
    verdict = compose([result("a", Outcome.PASS), result("b", Outcome.PASS)], [spec("a"), spec("b")])
    assert verdict == Verdict(Outcome.PASS, 1.0, 2, True)
    assert verdict.verified


def test_score_is_the_weighted_mean_of_what_completed() -> None:
    specs = [spec("a", weight=3), spec("b", required=False), spec("c", required=False, weight=100)]
    verdict = compose([result("a", Outcome.PASS), result("b", Outcome.FAIL), result("c", Outcome.ERROR)], specs)
    assert verdict.outcome is Outcome.PASS
    assert verdict.score == pytest.approx(0.75)
    assert not verdict.decisive_completed


def test_required_fail_vetoes_whatever_else_happened() -> None:
    for other in Outcome:
        verdict = compose([result("a", Outcome.FAIL, 0.9), result("b", other)], [spec("a"), spec("b")])
        assert (verdict.outcome, verdict.score) == (Outcome.FAIL, 0.0)
        assert not verdict.verified


@pytest.mark.parametrize("outcome", [Outcome.ERROR, Outcome.TIMEOUT])
def test_required_without_a_verdict_leaves_no_score(outcome: Outcome) -> None:
    verdict = compose([result("a", outcome), result("b", Outcome.PASS)], [spec("a"), spec("b")])
    assert (verdict.outcome, verdict.score, verdict.decisive_passes) == (outcome, None, 1)
    assert not verdict.verified


def test_optional_trouble_does_not_matter() -> None:
    verdict = compose([result("a", Outcome.TIMEOUT), result("b", Outcome.PASS)], [spec("a", required=False), spec("b")])
    assert (verdict.outcome, verdict.score) == (Outcome.PASS, 1.0)
    assert verdict.verified


def test_required_skip_is_no_pass() -> None:
    verdict = compose([result("a", Outcome.SKIPPED), result("b", Outcome.PASS)], [spec("a"), spec("b")])
    assert verdict.outcome is Outcome.SKIPPED
    assert not verdict.verified


def test_nothing_checked_proves_nothing() -> None:
    assert compose([], []) == Verdict(Outcome.PASS, None, 0, False)


def test_only_weightless_checks_completed() -> None:
    specs = [spec("a", weight=0.0), spec("b", required=False)]
    verdict = compose([result("a", Outcome.PASS), result("b", Outcome.ERROR)], specs)
    assert (verdict.outcome, verdict.score) == (Outcome.PASS, None)


def test_other_ids_are_refused() -> None:
    with pytest.raises(ValueError, match="same ids"):
        compose([result("a", Outcome.PASS)], [spec("b")])
    with pytest.raises(ValueError, match="same ids"):
        compose([result("a", Outcome.PASS), result("a", Outcome.PASS)], [spec("a")])


def test_a_pass_without_a_score_earns_nothing_and_a_fail_lowers() -> None:
    specs = [spec("a"), spec("form", required=False, weight=3, klass=CheckClass.SOFT)]
    passed = CheckResult("form", "format", CheckClass.SOFT, Outcome.PASS, None, 1.0, "1")
    for decisive, score in ((Outcome.PASS, 1.0), (Outcome.FAIL, 0.0)):
        assert compose([result("a", decisive), passed], specs).score == score
    assert compose([result("a", Outcome.PASS), result("form", Outcome.FAIL)], specs).score == pytest.approx(0.25)
    assert compose([passed], specs[1:]).score is None
