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


def all_in_per_solved(span: str) -> str:
    """As `cost_per_solved`, with checks, audits, judging and training, as far as they have a price."""
    spent = f'sum(increase(thinktwice_spending_usd_total{{component!="evaluation"}}[{span}]))'
    trained = f"(max(increase(thinktwice_training_cost_usd_total[{span}])) or vector(0))"
    return f"(({spent} + {trained}) > 0) / ({solved(span).successes} > 0)"


def idle(span: str) -> str:
    """What the engines' machines cost over `span` beyond the tokens that were attributed to answers and judging."""
    # Every 5 s a 720th of the hourly price, whichever gateway shows it: none need live as long as the span.
    engine = f"sum_over_time(max(thinktwice_engine_usd_per_hour)[{span}:5s]) / 720"
    used = 'component=~"generation|full_groups|evaluation|judge"'
    return f"clamp_min({engine} - {increase('thinktwice_spending_usd_total', span, used)}, 0)"


def arm_per_solved(what: str, span: str, arm: str) -> str:
    """What an arm of the audit lottery spent (`cost_usd` or `tokens`) for each request that it solved."""
    spent = increase(f"thinktwice_shadow_{what}_total", span, _of(arm))
    return f"{spent} / ({increase('thinktwice_shadow_solved_total', span, _of(arm))} > 0)"


def saved(span: str, baseline: str) -> str:
    """`1 - adaptive / baseline` of cost per solved, on the unbiased share."""
    ours, theirs = (arm_per_solved("cost_usd", span, arm) for arm in ("adaptive", baseline))
    return f"1 - ({ours}) / (({theirs}) > 0)"


def newest(metric: str, by: str) -> str:
    """What every process shows alike, since it comes from a file that they share."""
    return f"max by ({by}) ({metric})"


def quantile_of_all(q: float, histogram: str) -> str:
    """The `q` quantile of a histogram over the window."""
    return f"histogram_quantile({q}, sum by (le) (rate({histogram}_bucket[{WINDOW}]))) >= 0"


def mean_of(histogram: str) -> str:
    """The mean of a histogram over the window."""
    total, count = (f"sum(rate({histogram}_{part}[{WINDOW}]))" for part in ("sum", "count"))
    return f"{total} / ({count} > 0)"


def _of(arm: str) -> str:
    return f'arm="{arm}"'


def _selector(metric: str, matchers: str) -> str:
    return f"{metric}{{{matchers}}}" if matchers else metric


def _summed(vector: str, by: str) -> str:
    return f"sum by ({by}) ({vector})" if by else f"sum({vector})"
