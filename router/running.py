"""Estimates over a stream in bounded memory: a ratio with its interval, and quantiles of a positive quantity."""

from __future__ import annotations

import math
from collections import Counter

from router.stats import CONFIDENCE, Estimate, z_value

_ACCURACY = 0.01  # relative error of a quantile
_SMALLEST, _LARGEST = 1e-4, 1e5  # seconds; what lies outside is counted at the edge


class RunningRatio:
    """Ratio of two means over a stream of pairs, such as cost and solved.

    The interval is the delta method's for a ratio estimator (W. G. Cochran, Sampling Techniques, 1977, section 6.4).
    """

    def __init__(self) -> None:
        self.n = 0
        self._x = self._y = self._xx = self._yy = self._xy = 0.0

    def add(self, numerator: float, denominator: float) -> None:
        """Count one pair."""
        self.n += 1
        self._x += numerator
        self._y += denominator
        self._xx += numerator * numerator
        self._yy += denominator * denominator
        self._xy += numerator * denominator

    def plus(self, constant: float) -> RunningRatio:
        """The ratio of the same pairs, each numerator larger by `constant`."""
        other = RunningRatio()
        other.n, other._y, other._yy = self.n, self._y, self._yy
        other._x = self._x + self.n * constant
        other._xx = self._xx + 2 * constant * self._x + self.n * constant * constant
        other._xy = self._xy + constant * self._y
        return other

    @property
    def total(self) -> float:
        """The sum of the numerators."""
        return self._x

    @property
    def value(self) -> float | None:
        """The ratio, `None` while the denominators sum to 0."""
        return self._x / self._y if self._y else None

    @property
    def standard_error(self) -> float | None:
        """Of the ratio; `None` below two pairs, where no variance is known."""
        ratio = self.value
        if ratio is None or self.n < 2:
            return None
        residual = self._xx - 2 * ratio * self._xy + ratio * ratio * self._yy
        return math.sqrt(max(0.0, residual) * self.n / (self.n - 1)) / abs(self._y)

    def estimate(self, confidence: float = CONFIDENCE) -> Estimate:
        """The ratio with its interval; a lower bound below 0 is 0, for quantities that cannot be negative."""
        value, error = self.value, self.standard_error
        if value is None or error is None:
            return Estimate(value, self.n, None, None)
        reach = z_value(confidence) * error
        return Estimate(value, self.n, max(0.0, value - reach), value + reach)


def relative_saving(ours: RunningRatio, baseline: RunningRatio, confidence: float = CONFIDENCE) -> Estimate:
    """`1 - ours / baseline` of two independent streams, with the delta method's interval on the log ratio.

    `n` is the smaller of the two. No estimate while either ratio is unknown or not positive.
    """
    n = min(ours.n, baseline.n)
    a, b = ours.value, baseline.value
    if a is None or b is None or a <= 0 or b <= 0:
        return Estimate(None, n, None, None)
    a_error, b_error = ours.standard_error, baseline.standard_error
    if a_error is None or b_error is None:
        return Estimate(1 - a / b, n, None, None)
    reach = z_value(confidence) * math.hypot(a_error / a, b_error / b)
    return Estimate(1 - a / b, n, 1 - a / b * math.exp(reach), 1 - a / b * math.exp(-reach))


class QuantileSketch:
    """Quantiles of a stream within 1 % of the value, in at most about 1,000 counters.

    Logarithmic buckets as in DDSketch (Masson, Rim and Lee, PVLDB 12, 2019).
    """

    def __init__(self) -> None:
        self.n = 0
        self._log_base = math.log((1 + _ACCURACY) / (1 - _ACCURACY))
        self._buckets: Counter[int] = Counter()

    def add(self, value: float) -> None:
        """Count one value."""
        self.n += 1
        clamped = min(max(value, _SMALLEST), _LARGEST)
        self._buckets[math.ceil(math.log(clamped) / self._log_base)] += 1

    def estimate(self, q: float, confidence: float = CONFIDENCE) -> Estimate:
        """The quantile `q` in [0, 1], with the order-statistic interval (normal approximation of the binomial rank)."""
        if not self.n:
            return Estimate(None, 0, None, None)
        reach = z_value(confidence) * math.sqrt(self.n * q * (1 - q))
        rank = q * self.n
        return Estimate(self._at(rank), self.n, self._at(rank - reach), self._at(rank + reach))

    def _at(self, rank: float) -> float:
        wanted = min(self.n, max(1, math.ceil(rank)))
        seen = 0
        edge = 0
        for edge in sorted(self._buckets):
            seen += self._buckets[edge]
            if seen >= wanted:
                break
        base = math.exp(self._log_base)
        return 2 * base**edge / (base + 1)
