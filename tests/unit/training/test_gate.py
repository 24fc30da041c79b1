"""The gate's numbers against published and hand-computed ones, and each way to a verdict."""

from dataclasses import replace

import pytest

from router.stats import Estimate, e_value
from training.gate import (
    Evidence,
    Verdict,
    critical_wins,
    decide,
    mcnemar_p,
    minimum_detectable_effect,
    power_of,
)
from training.guards import Guard, error_guard, length_guard, truncation_guard

HOLDS = Guard("tokens per answer", Estimate(1.0, 100, 0.9, 1.1), 1.25)
FAILS = Guard("truncated share", Estimate(0.1, 100, 0.02, 0.18), 0.05)
BETTER = Evidence(asked=100, pairs=100, n01=12, n10=2, p_value=0.0065, mde=0.09, alpha=0.05, guards=(HOLDS,))


@pytest.mark.parametrize(
    ("n01", "n10", "p"),
    [(0, 0, 1.0), (5, 0, 1 / 32), (0, 5, 1.0), (1, 1, 0.75), (10, 2, 79 / 4096), (8, 2, 56 / 1024), (3000, 0, 0.0)],
)
def test_the_p_value_is_the_binomial_tail(n01: int, n10: int, p: float) -> None:
    assert mcnemar_p(n01, n10) == pytest.approx(p, rel=1e-12, abs=1e-300)


def test_negative_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="-1 wins"):
        mcnemar_p(-1, 3)


def test_critical_wins_of_the_sign_test_table() -> None:
    """One-sided 5 %: none of 4, 5 of 5, 7 of 8, 9 of 10, 15 of 20, 32 of 50."""
    table = critical_wins(50, 0.05)
    assert {m: table[m] for m in (4, 5, 8, 10, 20, 50)} == {4: 5, 5: 5, 8: 7, 10: 9, 20: 15, 50: 32}


@pytest.mark.parametrize(("pairs", "discordant"), [(500, 0.1), (500, 0.2), (1000, 0.1), (2000, 0.2)])
def test_the_minimum_detectable_effect_is_near_the_normal_approximation(pairs: int, discordant: float) -> None:
    """(z_.95 + z_.80) sqrt(d / N), which is a little optimistic for an exact test."""
    effect = minimum_detectable_effect(pairs, discordant, 0.05)
    assert effect is not None
    assert 1.0 < effect / (2.4865 * (discordant / pairs) ** 0.5) < 1.06


def test_few_pairs_detect_only_large_effects_or_none() -> None:
    assert minimum_detectable_effect(4, 0.5, 0.05) is None
    five = minimum_detectable_effect(5, 0.0, 0.05)  # all five must be wins: x^5 = 0.8
    assert five == pytest.approx(0.8 ** (1 / 5), abs=1e-4)
    assert minimum_detectable_effect(0, 0.0, 0.05) is None


def test_power_is_nothing_without_discordant_pairs_and_the_level_without_effect() -> None:
    critical = critical_wins(100, 0.05)
    assert power_of(critical, 0.0, 0.0) == 0.0
    assert 0.01 < power_of(critical, 0.3, 0.0) <= 0.05
    assert power_of(critical, 1.0, 1.0) == pytest.approx(1.0)


def test_e_values() -> None:
    assert e_value(0, 0) == 1.0
    assert e_value(1, 0) == pytest.approx(1 + (0.1 + 0.2 + 0.4) / 3)
    assert e_value(2, 1) == pytest.approx((1.1**2 * 0.9 + 1.2**2 * 0.8 + 1.4**2 * 0.6) / 3)
    assert e_value(0, 5000) < 1e-100 and 1e300 < e_value(5000, 0) < float("inf")


def test_a_significant_gain_with_all_guards_is_promoted() -> None:
    decision = decide(BETTER)
    assert decision.verdict is Verdict.PROMOTE and "12 wins to 2, p = 0.0065" in decision.why


@pytest.mark.parametrize(
    ("change", "verdict", "why"),
    [
        (
            {"p_value": 0.0501},
            Verdict.HOLD,
            "not shown to be better: 12 wins to 2, p = 0.05, alpha 0.05; 100 pairs show",
        ),
        ({"guards": (HOLDS, FAILS)}, Verdict.HOLD, "but truncated share fails (up to 0.18, margin 0.05)"),
        ({"mde": None}, Verdict.INCONCLUSIVE, "100 pairs cannot show any gain"),
        ({"asked": 106}, Verdict.INCONCLUSIVE, "6 of 106 pairs ended in an error, more than 5%"),
    ],
)
def test_everything_else_is_not(change: dict[str, object], verdict: Verdict, why: str) -> None:
    decision = decide(replace(BETTER, **change))  # type: ignore[arg-type]  # fields chosen by the parameters
    assert decision.verdict is verdict and why in decision.why and "\n" not in decision.why


def test_p_equal_to_alpha_and_errors_at_the_limit_still_count() -> None:
    assert decide(replace(BETTER, p_value=0.05)).verdict is Verdict.PROMOTE
    assert decide(replace(BETTER, asked=100, pairs=95)).verdict is Verdict.PROMOTE


def test_a_guard_without_data_shows_nothing() -> None:
    assert not Guard("x", Estimate(None, 0, None, None), 1.0).holds
    assert not length_guard([], 0).holds and not truncation_guard([]).holds and not error_guard([]).holds


def test_share_guards_need_52_pairs_even_when_nothing_happens() -> None:
    assert [truncation_guard([(False, False)] * n).holds for n in (51, 52)] == [False, True]


def test_the_length_guard_compares_total_lengths() -> None:
    assert length_guard([(110.0, 100.0)] * 20, 0).holds
    assert not length_guard([(130.0, 100.0)] * 20, 0).holds
    mixed = length_guard([(300.0, 100.0), (50.0, 100.0)] * 10, 0)
    assert mixed.estimate.value == pytest.approx(1.75) and not mixed.holds
