"""Estimates with their intervals. Pure, standard library only; every number the product reports goes through here.

An estimate without data is `None`, never a division error and never zero. A bound that the data cannot close (a
cost per solved task when a resample solves nothing) is `None` too.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeVar

T = TypeVar("T")
CONFIDENCE = 0.95
RESAMPLES = 2000
BETS = (0.1, 0.2, 0.4)
_LARGEST_LOG = 700.0  # e to the power of it is still a double


@dataclass(frozen=True, slots=True)
class Rate:
    """A proportion `successes / n` with its interval, all in [0, 1]; `None` when n is 0."""

    value: float | None
    successes: int
    n: int
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean, ratio, quantile or difference over `n` observations with its interval."""

    value: float | None
    n: int
    low: float | None
    high: float | None


NO_DATA = Estimate(None, 0, None, None)


def z_value(confidence: float = CONFIDENCE) -> float:
    """The two-sided standard normal quantile. Raises `ValueError` unless 0 < confidence < 1."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    return NormalDist().inv_cdf((1 + confidence) / 2)


def wilson(successes: int, n: int, confidence: float = CONFIDENCE) -> Rate:
    """The proportion with its score interval (E. B. Wilson, JASA 22, 1927), which never leaves [0, 1].

    Raises `ValueError` unless 0 <= successes <= n.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}")
    z = z_value(confidence)
    if n == 0:
        return Rate(None, 0, 0, None, None)
    p = successes / n
    spread = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = max(0.0, (p + z * z / (2 * n) - spread) / scale) if successes else 0.0
    high = min(1.0, (p + z * z / (2 * n) + spread) / scale) if successes < n else 1.0
    return Rate(p, successes, n, low, high)


def upper_bound(successes: int, n: int, confidence: float = CONFIDENCE) -> float | None:
    """The upper end of the one-sided exact interval of a proportion (Clopper and Pearson, Biometrika 26, 1934).

    The p at which `successes` or fewer of `n` have the probability `1 - confidence`; `None` when n is 0. Raises
    `ValueError` unless 0 <= successes <= n.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}")
    if n == 0:
        return None
    if successes == n:
        return 1.0
    low, high = successes / n, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        at_most = sum(_binomial(n, k, middle) for k in range(successes + 1))
        low, high = (middle, high) if at_most > 1 - confidence else (low, middle)
    return high


def _binomial(n: int, k: int, p: float) -> float:
    """The probability of k successes of n, for 0 < p < 1."""
    log_ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(log_ways + k * math.log(p) + (n - k) * math.log1p(-p))


def paired_difference(pairs: Sequence[tuple[bool, bool]], confidence: float = CONFIDENCE) -> Estimate:
    """Success rate of the first of each pair minus that of the second.

    The interval is method 10 of R. G. Newcombe (Statistics in Medicine 17, 1998, 2635-2650): Wilson's, corrected for
    the correlation of the pairs. Unlike the bootstrap it keeps its width when all pairs agree.
    """
    n = len(pairs)
    first, second = wilson(sum(a for a, _ in pairs), n, confidence), wilson(sum(b for _, b in pairs), n, confidence)
    if first.value is None or second.value is None:
        return NO_DATA
    correlation = _paired_correlation(pairs)
    (first_below, first_above), (second_below, second_above) = _reach(first), _reach(second)
    value = first.value - second.value
    low = value - _combined(first_below, second_above, correlation)
    high = value + _combined(first_above, second_below, correlation)
    return Estimate(value, n, low, high)


def e_value(wins: int, losses: int) -> float:
    """The evidence against "no better" that stays valid however often one looks: significant from 1/alpha on.

    The mean over bets b in `BETS` of the product of 1 + b for every win and 1 - b for every loss, a martingale of mean
    1 when wins and losses are equally likely (Grünwald, de Heide and Koolen, Safe Testing, 2019). Capped at e^700.
    """
    logs = [wins * math.log1p(bet) + losses * math.log1p(-bet) for bet in BETS]
    most = max(logs)
    log = most + math.log(math.fsum(math.exp(each - most) for each in logs) / len(BETS))
    return math.exp(min(log, _LARGEST_LOG))


def poisson_rate(count: int, exposure: float, confidence: float = CONFIDENCE) -> Estimate:
    """Events per unit of `exposure` with Byar's interval (Breslow and Day, 1987, section 2.3).

    Zero exposure gives no estimate. Raises `ValueError` for a negative count or exposure.
    """
    if count < 0 or exposure < 0:
        raise ValueError(f"{count} events in {exposure}")
    z = z_value(confidence)
    if exposure == 0:
        return Estimate(None, count, None, None)
    low = count * (1 - 1 / (9 * count) - z / (3 * math.sqrt(count))) ** 3 if count else 0.0
    above = count + 1
    high = above * (1 - 1 / (9 * above) + z / (3 * math.sqrt(above))) ** 3
    return Estimate(count / exposure, count, max(0.0, low) / exposure, high / exposure)


def bootstrap(
    observations: Sequence[T],
    statistic: Callable[[Sequence[T]], float | None],
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """`statistic` with its percentile bootstrap interval over whole observations (B. Efron, Ann. Statist. 7, 1979).

    One observation is one prompt, so that what belongs to a prompt is resampled together. The same seed gives the
    same interval. A resample where the statistic is None counts as infinitely large, so the upper bound opens
    (`None`) when too many of them solve nothing.
    """
    z_value(confidence)
    n = len(observations)
    value = statistic(observations) if n else None
    if value is None:
        return Estimate(None, n, None, None)
    rng = random.Random(seed)
    draws = sorted(_or_infinite(statistic(rng.choices(observations, k=n))) for _ in range(resamples))
    tail = (1 - confidence) / 2
    return Estimate(value, n, _finite(_rank(draws, tail)), _finite(_rank(draws, 1 - tail)))


def bootstrap_mean(values: Sequence[float], confidence: float = CONFIDENCE, seed: int = 0) -> Estimate:
    """The mean with its bootstrap interval."""
    return bootstrap(values, mean, confidence, seed=seed)


def bootstrap_ratio(
    numerators: Sequence[float], denominators: Sequence[float], confidence: float = CONFIDENCE, seed: int = 0
) -> Estimate:
    """`sum(numerators) / sum(denominators)`, such as cost per solved task, with its bootstrap interval over the pairs.

    Raises `ValueError` when the two differ in length.
    """
    return bootstrap(list(zip(numerators, denominators, strict=True)), ratio, confidence, seed=seed)


def mean(values: Sequence[float]) -> float | None:
    """The mean, `None` of nothing."""
    return math.fsum(values) / len(values) if values else None


def ratio(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Ratio of the sums of the pairs' members, `None` when the second sum is 0."""
    below = math.fsum(pair[1] for pair in pairs)
    return math.fsum(pair[0] for pair in pairs) / below if below else None


def quantile(values: Sequence[float], q: float) -> float | None:
    """The smallest value with at least a share `q` of the values at or below it; `None` of nothing."""
    return _rank(sorted(values), q) if values else None


def _paired_correlation(pairs: Sequence[tuple[bool, bool]]) -> float:
    """Newcombe's phi: the pairs' correlation, positive values corrected for continuity; 0 where it is undefined."""
    counts = Counter((bool(a), bool(b)) for a, b in pairs)
    both, neither = counts[True, True], counts[False, False]
    only_first, only_second = counts[True, False], counts[False, True]
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    cross = both * neither - only_first * only_second
    corrected = max(cross - len(pairs) / 2, 0.0) if cross > 0 else cross
    return corrected / math.sqrt(margins) if margins else 0.0


def _reach(rate: Rate) -> tuple[float, float]:
    """How far the interval reaches below and above the value."""
    if rate.value is None or rate.low is None or rate.high is None:
        return 0.0, 0.0
    return rate.value - rate.low, rate.high - rate.value


def _combined(a: float, b: float, correlation: float) -> float:
    return math.sqrt(max(0.0, a * a - 2 * correlation * a * b + b * b))


def _rank(ordered: Sequence[float], q: float) -> float:
    return ordered[min(len(ordered) - 1, max(0, math.ceil(q * len(ordered)) - 1))]


def _or_infinite(value: float | None) -> float:
    return math.inf if value is None else value


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
