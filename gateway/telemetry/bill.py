"""What everything costs: generation, verification, audits, judging, and the engine's idle time beside them.

Tokens have prices, and machines have one by the hour (`[costs]`). What has no price is unknown, never 0.
"""

from __future__ import annotations

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
_HOURLY = collected("machine_usd_per_hour", "gauge", "What `[costs]` says a machine costs", ("part",))
FAMILIES = (_SPENDING, _HOURLY)


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

    def add_answer(self, usd: float, purpose: Purpose, *, full_group: bool) -> None:
        """Count the tokens of one answer."""
        if purpose is Purpose.EVAL:
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

    def idle_usd(self, seconds: float) -> float | None:
        """What the engine cost in `seconds` of this process beyond the tokens that were attributed."""
        if self.costs.engine_usd_per_hour is None:
            return None
        tokens = self.generation_usd + self.full_groups_usd + self.evaluation_usd
        judged = self.judge_usd(self.judged) or 0.0
        return max(0.0, self.costs.engine_usd_per_hour * seconds / 3600 - tokens - judged)

    def collect(self) -> Iterator[Metric]:
        """The components, and the machines' prices."""
        yield series(_SPENDING, {(component,): usd for component, usd in self.spent().items()})
        parts = {
            "engine": self.costs.engine_usd_per_hour,
            "trainer": self.costs.trainer_usd_per_hour,
            "core": self.costs.core_usd_per_hour,
        }
        yield series(_HOURLY, {(part,): usd for part, usd in parts.items() if usd is not None})
