"""What everything costs: generation, verification, audits, judging, and the engine's idle time beside them.

Tokens have prices, and machines have one by the hour (`[costs]`). What has no price is unknown, never 0.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from gateway.telemetry.collected import collected, series
from router.domain import Tokens
from router.enums import Purpose
from router.settings import CostsSection

_SPENDING = collected(
    "spending_usd_total",
    "counter",
    "Dollars by what they were for; `full_groups`: drawn by the audit lottery; `verification` and `audit`: time of "
    "checks and of second verifiers; a component without a price is missing",
    ("component",),
)
_ENGINE = collected(
    "engine_usd_per_hour",
    "gauge",
    "What the engines' machines cost by the hour, `[costs] engine_usd_per_hour`; over a time, without the tokens' "
    "dollars of it, that is idle cost",
)
FAMILIES = (_SPENDING, _ENGINE)


class Component(StrEnum):
    """What a dollar of this process was for."""

    GENERATION = "generation"
    FULL_GROUPS = "full_groups"
    EVALUATION = "evaluation"
    VERIFICATION = "verification"
    AUDIT = "audit"
    JUDGE = "judge"


@dataclass(slots=True, eq=False)
class Bill(Collector):
    """What one process has spent. `judge_usd` prices the tokens of the model that grades, None without a price."""

    costs: CostsSection = field(default_factory=CostsSection)
    judge_usd: Callable[[Tokens], float | None] = lambda _: None
    generation_usd: float = 0.0
    full_groups_usd: float = 0.0
    evaluation_usd: float = 0.0
    verification_s: float = 0.0
    audit_s: float = 0.0
    judged: Tokens = field(default_factory=Tokens)
    clock: Callable[[], float] = time.monotonic  # seconds
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.clock()

    def add_answer(self, usd: float, purpose: Purpose, *, full_group: bool) -> None:
        """Count the tokens of one answer."""
        if purpose in (Purpose.EVAL, Purpose.SHADOW):
            self.evaluation_usd += usd
        elif full_group:
            self.full_groups_usd += usd
        else:
            self.generation_usd += usd

    def spent(self) -> dict[Component, float]:
        """US dollars by component; without those that have no price."""
        found = {
            Component.GENERATION: self.generation_usd,
            Component.FULL_GROUPS: self.full_groups_usd,
            Component.EVALUATION: self.evaluation_usd,
        }
        if (core := self.costs.core_usd_per_hour) is not None:
            found[Component.VERIFICATION] = self.verification_s / 3600 * core
            found[Component.AUDIT] = self.audit_s / 3600 * core
        if (judged := self.judge_usd(self.judged)) is not None:
            found[Component.JUDGE] = judged
        return found

    def engine_usd(self) -> float | None:
        """What the engines' machines cost since this process began; None without a price."""
        hourly = self.costs.engine_usd_per_hour
        return None if hourly is None else hourly * (self.clock() - self.began) / 3600

    def idle_usd(self) -> float | None:
        """What of that the tokens drawn do not explain."""
        if (engine := self.engine_usd()) is None:
            return None
        tokens = self.generation_usd + self.full_groups_usd + self.evaluation_usd
        return max(0.0, engine - tokens - (self.judge_usd(self.judged) or 0.0))

    def collect(self) -> Iterator[Metric]:
        """The components, and the engines' machines."""
        yield series(_SPENDING, {(component,): usd for component, usd in self.spent().items()})
        hourly = self.costs.engine_usd_per_hour
        yield series(_ENGINE, {} if hourly is None else {(): hourly})
