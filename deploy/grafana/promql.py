"""The PromQL of the dashboards: the questions asked of the metrics in `docs/metrics.md`."""

from __future__ import annotations

from dataclasses import dataclass

from router.stats import z_value

ORDINARY = 'purpose=~"prod|audit"'  # what users asked for: neither evaluations nor replays
NOW = "$__range"  # the time range of the whole dashboard
RATE = "$__rate_interval"
WINDOW = "$window"  # the span a moving ratio looks back over


@dataclass(frozen=True, slots=True)
class Proportion:
    """`successes / n`, two PromQL expressions of one series each. All of it is empty, not NaN, while `n` is 0."""

    successes: str
    n: str

    @property
    def value(self) -> str:
        """The share of successes."""
        return f"{self.successes} / ({self.n} > 0)"

    @property
    def low(self) -> str:
        """Lower bound of the 95 % score interval (E. B. Wilson, JASA 22, 1927), as `router.stats.wilson` has it."""
        return f"clamp_min({self._bound('-')}, 0)"

    @property
    def high(self) -> str:
        """Upper bound of the same interval."""
        return f"clamp_max({self._bound('+')}, 1)"

    def _bound(self, sign: str) -> str:
        s, n, z = self.successes, self.n, z_value()
        half_width = f"{z:.9f} * sqrt({s} * ({n} - {s}) / ({n} > 0) + {z * z / 4:.9f})"
        return f"({s} + {z * z / 2:.9f} {sign} {half_width}) / ({n} + {z * z:.9f})"


def increase(metric: str, span: str, matchers: str = "", by: str = "") -> str:
    """How much a counter grew over `span`, summed over all series or `by` labels."""
    return _summed(f"increase({_selector(metric, matchers)}[{span}])", by)


def rate(metric: str, by: str = "", matchers: str = "") -> str:
    """A counter's growth a second."""
    return _summed(f"rate({_selector(metric, matchers)}[{RATE}])", by)


def quantile(q: float, histogram: str, by: str, matchers: str = "") -> str:
    """The `q` quantile of a histogram over the window, one series for each value of `by` that saw anything."""
    buckets = _selector(f"{histogram}_bucket", matchers)
    return f"histogram_quantile({q}, sum by (le, {by}) (rate({buckets}[{WINDOW}]))) >= 0"


def average(histogram: str, by: str) -> str:
    """The mean of a histogram over the window, one series for each value of `by` that saw anything."""
    total, count = (f"sum by ({by}) (rate({histogram}_{part}[{WINDOW}]))" for part in ("sum", "count"))
    return f"{total} / ({count} > 0)"


def solved(span: str) -> Proportion:
    """Verified answers among those that a decisive check judged, ordinary traffic only."""
    return Proportion(
        increase("thinktwice_answers_total", span, f'status="verified", {ORDINARY}'),
        increase("thinktwice_answers_total", span, f'status=~"verified|failed", {ORDINARY}'),
    )


def hits(span: str) -> Proportion:
    """Hits among the lookups that the answer cache answered."""
    return Proportion(
        increase("thinktwice_cache_lookups_total", span, 'result="hit"'),
        increase("thinktwice_cache_lookups_total", span, 'result=~"hit|miss"'),
    )


def cost_per_solved(span: str) -> str:
    """Dollars spent on ordinary traffic for each verified answer. Empty while nothing was paid for or verified."""
    spent = increase("thinktwice_cost_usd_total", span, ORDINARY)
    return f"({spent} > 0) / ({solved(span).successes} > 0)"


def _selector(metric: str, matchers: str) -> str:
    return f"{metric}{{{matchers}}}" if matchers else metric


def _summed(vector: str, by: str) -> str:
    return f"sum by ({by}) ({vector})" if by else f"sum({vector})"
