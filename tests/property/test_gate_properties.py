"""Laws of the gate: by enumeration where it can be enumerated."""

import itertools
import random
from fractions import Fraction
from math import comb

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.stats import BETS, e_value
from training.gate import (
    POWER,
    Evidence,
    Verdict,
    critical_wins,
    decide,
    mcnemar_p,
    minimum_detectable_effect,
    power_of,
)

counts = st.integers(0, 400)
levels = st.floats(1e-4, 0.4)
in_any_time = settings(deadline=None)  # exact sums take as long as the machine is busy


@pytest.mark.parametrize("n", range(15))
def test_the_p_value_is_the_share_of_sequences_with_as_many_wins(n: int) -> None:
    wins = [sum(sequence) for sequence in itertools.product((0, 1), repeat=n)]
    for n01 in range(n + 1):
        assert mcnemar_p(n01, n - n01) == sum(each >= n01 for each in wins) / len(wins)


@pytest.mark.parametrize("n", range(15, 21))
def test_the_p_value_is_the_sum_of_the_exact_binomial(n: int) -> None:
    for n01 in range(n + 1):
        exact = sum(Fraction(comb(n, k), 2**n) for k in range(n01, n + 1))
        assert mcnemar_p(n01, n - n01) == float(exact)


@in_any_time
@given(counts, counts)
def test_the_two_sides_are_symmetric(n01: int, n10: int) -> None:
    """P(X >= a) + P(X >= b) counts X = a twice when X is symmetric."""
    both = Fraction(comb(n01 + n10, n01), 2 ** (n01 + n10))
    assert mcnemar_p(n01, n10) + mcnemar_p(n10, n01) == pytest.approx(1 + float(both))


@in_any_time
@given(counts, counts)
def test_more_wins_and_fewer_losses_are_more_evidence(n01: int, n10: int) -> None:
    assert mcnemar_p(n01 + 1, n10) <= mcnemar_p(n01, n10) <= mcnemar_p(n01, n10 + 1)
    assert e_value(n01 + 1, n10) > e_value(n01, n10) > e_value(n01, n10 + 1)


@in_any_time
@given(st.integers(0, 300), levels)
def test_critical_wins_are_the_fewest_that_are_significant(pairs: int, alpha: float) -> None:
    for m, wins in enumerate(critical_wins(pairs, alpha)):
        assert wins == m + 1 or mcnemar_p(wins, m - wins) <= alpha
        assert wins == 0 or mcnemar_p(wins - 1, m - wins + 1) > alpha


@in_any_time
@given(st.integers(0, 400), st.floats(0, 1), levels)
def test_equal_policies_are_promoted_at_most_at_the_level(pairs: int, discordant: float, alpha: float) -> None:
    assert power_of(critical_wins(pairs, alpha), discordant, 0.0) <= alpha * (1 + 1e-9)


@in_any_time
@given(st.integers(1, 14), st.floats(0.05, 1), st.floats(0, 1), levels)
def test_power_is_the_sum_over_all_outcomes(pairs: int, discordant: float, share: float, alpha: float) -> None:
    effect = share * discordant
    assert power_of(critical_wins(pairs, alpha), discordant, effect) == pytest.approx(
        enumerated_power(pairs, discordant, effect, alpha), abs=1e-9
    )


@in_any_time
@given(st.integers(0, 24), st.floats(0, 1), levels)
def test_the_minimum_detectable_effect_has_its_power_and_no_smaller_one_has(
    pairs: int, discordant: float, alpha: float
) -> None:
    effect = minimum_detectable_effect(pairs, discordant, alpha)
    if effect is None:
        assert 0.5**pairs > alpha
        return
    assert enumerated_power(pairs, max(discordant, effect), effect, alpha) >= POWER - 1e-9
    smaller = max(0.0, effect - 2e-4)
    assert enumerated_power(pairs, max(discordant, smaller), smaller, alpha) < POWER


@in_any_time
@given(st.integers(1, 200), st.integers(1, 200), st.floats(0.01, 1))
def test_more_pairs_detect_no_larger_an_effect_than_half_as_many(pairs: int, more: int, discordant: float) -> None:
    few, many = (minimum_detectable_effect(n, discordant, 0.05) for n in (pairs, 2 * pairs + more))
    assert few is None or (many is not None and many <= few)


@in_any_time
@given(counts, counts)
def test_the_e_process_is_a_martingale_when_wins_and_losses_are_equally_likely(n01: int, n10: int) -> None:
    assert (e_value(n01 + 1, n10) + e_value(n01, n10 + 1)) / 2 == pytest.approx(e_value(n01, n10), rel=1e-9)


@pytest.mark.parametrize("n", range(13))
def test_the_e_value_is_the_mean_product_of_the_bets_and_has_mean_one(n: int) -> None:
    values = []
    for sequence in itertools.product((0, 1), repeat=n):
        products = []
        for bet in BETS:
            product = 1.0
            for x in sequence:
                product *= 1 + bet * (2 * x - 1)
            products.append(product)
        values.append(sum(products) / len(BETS))
        assert e_value(sum(sequence), n - sum(sequence)) == pytest.approx(values[-1])
    assert sum(values) / len(values) == pytest.approx(1)


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
def test_peeking_after_every_pair_keeps_the_level(alpha: float) -> None:
    """Exactly, over all paths of 200 fair pairs: the chance ever to reach 1/alpha (Ville's inequality)."""
    alive, crossed = {0: 1.0}, 0.0
    for n in range(1, 201):
        reached: dict[int, float] = {}
        for wins, chance in alive.items():
            for now in (wins, wins + 1):
                if e_value(now, n - now) >= 1 / alpha:
                    crossed += chance / 2
                else:
                    reached[now] = reached.get(now, 0.0) + chance / 2
        alive = reached
    assert 0 < crossed <= alpha


def test_identical_policies_are_rarely_promoted() -> None:
    """2,000 evaluations of 200 questions, each solved with a probability of 40 % by both, every guard holding."""
    rng, pairs, alpha = random.Random(7), 200, 0.05
    promoted = 0
    for _ in range(2000):
        outcomes = [(rng.random() < 0.4, rng.random() < 0.4) for _ in range(pairs)]
        n01, n10 = outcomes.count((True, False)), outcomes.count((False, True))
        evidence = Evidence(pairs, pairs, n01, n10, mcnemar_p(n01, n10), mde=0.1, alpha=alpha, guards=())
        promoted += decide(evidence).verdict is Verdict.PROMOTE
    assert 0 < promoted <= 130  # 5 % are 100, three standard deviations of the binomial 30


def enumerated_power(pairs: int, discordant: float, effect: float, alpha: float) -> float:
    """The chance of significance, summed over the trinomial of wins, losses and pairs that agree."""
    win, loss = (discordant + effect) / 2, max(0.0, (discordant - effect) / 2)
    total = 0.0
    for n01 in range(pairs + 1):
        for n10 in range(pairs - n01 + 1):
            if mcnemar_p(n01, n10) <= alpha:
                agree = pairs - n01 - n10
                ways = comb(pairs, n01) * comb(pairs - n01, n10)
                total += ways * win**n01 * loss**n10 * max(0.0, 1 - discordant) ** agree
    return total
