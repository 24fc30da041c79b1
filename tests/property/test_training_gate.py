"""The gate by simulation: property 26. Every rate is held against its exact binomial bounds, at fixed seeds."""

from __future__ import annotations

import random

import pytest

from router.stats import e_value
from training.gate import critical_wins, mcnemar_p, minimum_detectable_effect

ALPHA, RUNS = 0.05, 2000
# P(X > 131) and P(X < 1544) are below 0.1 % for X binomial of 2,000 runs at 5 % and at 80 %.
MOST_FALSE, FEWEST_FOUND = 131, 1544


def discordant(rng: random.Random, pairs: int, share: float, effect: float) -> tuple[int, int]:
    """Wins and losses of a candidate that solves `effect` more, where `share` of the pairs are discordant."""
    m = sum(rng.random() < share for _ in range(pairs))
    wins = sum(rng.random() < (1 + effect / share) / 2 for _ in range(m))
    return wins, m - wins


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_26_the_same_policy_twice_is_promoted_no_more_often_than_alpha(share: float) -> None:
    rng = random.Random(26)
    promoted = sum(mcnemar_p(*discordant(rng, 100, share, 0.0)) <= ALPHA for _ in range(RUNS))
    assert promoted <= MOST_FALSE


def test_26_a_gain_of_the_minimum_detectable_effect_is_found_as_often_as_planned() -> None:
    rng, share, pairs = random.Random(26), 0.2, 300
    effect = minimum_detectable_effect(pairs, share, ALPHA)
    assert effect is not None
    critical = critical_wins(pairs, ALPHA)
    found = 0
    for _ in range(RUNS):
        wins, losses = discordant(rng, pairs, share, effect)
        found += wins >= critical[wins + losses]
    assert FEWEST_FOUND <= found <= 0.84 * RUNS


def test_26_looking_after_every_pair_spoils_the_p_value_and_not_the_e_value() -> None:
    rng = random.Random(26)
    by_e = by_p = 0
    critical = critical_wins(60, ALPHA)
    for _ in range(RUNS):
        wins, seen_e, seen_p = 0, False, False
        for m in range(1, 61):
            wins += rng.random() < 0.5
            seen_e = seen_e or e_value(wins, m - wins) >= 1 / ALPHA
            seen_p = seen_p or wins >= critical[m]
        by_e, by_p = by_e + seen_e, by_p + seen_p
    assert by_e <= MOST_FALSE
    assert by_p > 2 * ALPHA * RUNS
