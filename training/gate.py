"""The gate's statistics: is the candidate better than the champion on the same questions? Pure, standard library only.

A pair is one question asked of both. n01 counts the pairs that only the candidate solved, n10 those that only the
champion solved; the other pairs say nothing about the difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from training.guards import Guard

POWER = 0.8
MAX_ERROR_SHARE = 0.05
_MDE_STEP = 1e-4  # the minimum detectable effect is rounded up by at most this


class Verdict(StrEnum):
    """What should become of the candidate."""

    PROMOTE = "promote"
    HOLD = "hold"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict and its reason in one line."""

    verdict: Verdict
    why: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a comparison found; shares and effects are in [0, 1]."""

    asked: int  # questions
    pairs: int  # of them, those that both arms answered and the checks judged
    n01: int
    n10: int
    p_value: float
    mde: float | None
    alpha: float
    guards: Sequence[Guard]


def mcnemar_p(n01: int, n10: int) -> float:
    """The exact one-sided p-value of McNemar's test: P(X >= n01), X binomial of n01 + n10 pairs at 1/2.

    Q. McNemar, Psychometrika 12, 1947. Raises `ValueError` for a negative count.
    """
    if n01 < 0 or n10 < 0:
        raise ValueError(f"{n01} wins and {n10} losses")
    total = n01 + n10
    ways, tail, sequences = 1, 0, 1 << total
    for losses in range(n10 + 1):  # C(total, losses) ways to lose so many
        tail += ways
        ways = ways * (total - losses) // (losses + 1)
    return tail / sequences


def critical_wins(pairs: int, alpha: float) -> list[int]:
    """For m = 0 ... `pairs` discordant pairs, the fewest wins whose p-value is at most `alpha`; m + 1 when none is.

    From m to m + 1 that number stays or grows by one, so the tails are updated, not summed again.
    """
    found, wins, tail, below = [1], 1, 0, 1  # `tail` of 2^m sequences have `wins` or more, `below` have wins - 1
    for m in range(1, pairs + 1):
        tail = 2 * tail + below
        below = below * m // (m + 1 - wins)
        if tail / (1 << m) > alpha:
            below = below * (m + 1 - wins) // wins
            tail -= below
            wins += 1
        found.append(wins)
    return found


def power_of(critical: Sequence[int], discordant: float, effect: float) -> float:
    """The probability that the exact test is significant, by summation over every outcome.

    `critical` is `critical_wins` of the number of pairs. Each pair is discordant with probability `discordant`, and the
    candidate solves `effect` more: a discordant pair is a win with probability (1 + effect / discordant) / 2.
    """
    if discordant == 0:
        return 0.0
    pairs, win = len(critical) - 1, (1 + effect / discordant) / 2
    power, significant = 0.0, 0.0
    for m in range(1, pairs + 1):
        wins = critical[m - 1]
        significant += win * _binomial(wins - 1, m - 1, win)
        if critical[m] > wins:
            significant -= _binomial(wins, m, win)
        power += _binomial(m, pairs, discordant) * significant
    return power


def minimum_detectable_effect(pairs: int, discordant: float, alpha: float) -> float | None:
    """The smallest gain in solve rate that the exact test at `alpha` finds with a probability of `POWER`.

    Of `pairs` pairs a share `discordant` is discordant, or as many as the gain itself needs. Rounded up by at most
    0.01 points. None when no result of so few pairs is significant.
    """
    critical = critical_wins(pairs, alpha)
    if critical[-1] > pairs:
        return None
    low, high = 0.0, 1.0
    while high - low > _MDE_STEP:
        effect = (low + high) / 2
        if power_of(critical, max(discordant, effect), effect) >= POWER:
            high = effect
        else:
            low = effect
    return high


def decide(evidence: Evidence) -> Decision:
    """Promote a candidate that is significantly better and non-inferior in every guard, and say why in one line."""
    dropped = evidence.asked - evidence.pairs
    if dropped > MAX_ERROR_SHARE * evidence.asked:
        why = f"{dropped} of {evidence.asked} pairs ended in an error, more than {MAX_ERROR_SHARE:.0%}"
        return Decision(Verdict.INCONCLUSIVE, f"{why}: cure the errors and run it again")
    if evidence.mde is None:
        why = f"{evidence.pairs} pairs cannot show any gain at alpha {evidence.alpha:g}: give more questions"
        return Decision(Verdict.INCONCLUSIVE, why)
    counts = f"{evidence.n01} wins to {evidence.n10}, p = {evidence.p_value:.2g}"
    if evidence.p_value > evidence.alpha:
        found = f"{counts}, alpha {evidence.alpha:g}; {evidence.pairs} pairs show gains from {evidence.mde:.1%} on"
        return Decision(Verdict.HOLD, f"not shown to be better: {found}")
    if failing := [guard.text() for guard in evidence.guards if not guard.holds]:
        return Decision(Verdict.HOLD, f"better ({counts}), but {'; '.join(failing)}")
    return Decision(Verdict.PROMOTE, f"better: {counts}, alpha {evidence.alpha:g}, and every guard holds")


def _binomial(k: int, n: int, p: float) -> float:
    """P(X = k) for X binomial of n trials at p; 0 outside 0 ... n."""
    if not 0 <= k <= n:
        return 0.0
    if p in (0.0, 1.0):
        return float(k == n * p)
    ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(ways + k * math.log(p) + (n - k) * math.log1p(-p))
