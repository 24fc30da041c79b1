"""The unbiased share as metrics: what each arm of the audit lottery solved and spent (`gateway.telemetry.savings`)."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from gateway.telemetry.collected import collected, series
from gateway.telemetry.savings import Savings

_ARM = ("arm",)
_REQUESTS = collected(
    "shadow_requests_total", "counter", "Requests of the audit lottery, by what would have answered them", _ARM
)
_SOLVED = collected("shadow_solved_total", "counter", "Those of them that it solved", _ARM)
_TOKENS = collected("shadow_tokens_total", "counter", "Tokens that it took", _ARM)
_COST = collected("shadow_cost_usd_total", "counter", "Dollars that it took, of those requests that have a price", _ARM)
FAMILIES = (_REQUESTS, _SOLVED, _TOKENS, _COST)


class Shadow(Collector):
    """Reads the arms at every scrape."""

    def __init__(self, savings: Savings) -> None:
        self._savings = savings

    def collect(self) -> Iterator[Metric]:
        """All four families."""
        arms = self._savings.arms()
        yield series(_REQUESTS, {(name,): arm.n for name, arm in arms.items()})
        yield series(_SOLVED, {(name,): arm.solved for name, arm in arms.items()})
        yield series(_TOKENS, {(name,): arm.tokens.total for name, arm in arms.items()})
        yield series(_COST, {(name,): arm.cost.total for name, arm in arms.items()})
