"""The second, larger model of `[escalation]`: where it is asked, at what price, and what is expected of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from gateway.resilience.replica_state import ReplicaState
from router.calibration.model import Calibration
from router.domain import EngineInfo
from router.errors import BackendError
from router.ports import Backend
from router.settings import EscalationSection, PriceSection

_PATIENCE_S = 0.5  # for its probe, which goes on in the background: nothing else waits for the larger model

_log = logging.getLogger(__name__)


class LargerModel:
    """Its engines and its terms. `facts` are its engine's, None while it cannot be asked."""

    def __init__(
        self,
        section: EscalationSection,
        backend: Backend,
        price: PriceSection | None,
        usd_per_solve: float | None = None,
    ) -> None:
        self.name, self.timeout_s = section.model, section.timeout_s
        self.backend, self.price, self.usd_per_solve = backend, price, usd_per_solve
        self.facts: EngineInfo | None = None
        self._solve_rate = section.solve_rate
        self._fault: str | None = None

    async def look(self) -> bool:
        """Ask its engine for its health, and for its models when it comes up; whether it can be asked for samples."""
        if not await self.backend.alive():
            self.facts = None
            return False
        if self.facts is None:
            self.facts, fault = await self._probed()
            if fault is not None and fault != self._fault:
                _log.warning("nothing is escalated: %s", fault)
            self._fault = fault
        return self.facts is not None

    def chance(self, calibration: Calibration | None) -> float:
        """That it solves what the policy's own samples did not: as configured, and as the log has taught since."""
        seen = calibration.escalations.get(self.name) if calibration is not None else None
        return self._solve_rate if seen is None else seen.chance(self._solve_rate)

    async def _probed(self) -> tuple[EngineInfo | None, str | None]:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                facts = await self.backend.probe()
        except TimeoutError:
            return None, None
        except BackendError as error:
            return None, str(error)
        if self.name not in facts.models:
            return None, f"the engine of [escalation] serves {', '.join(facts.models)}, not {self.name}"
        return facts, None


class Unobserved:
    """`PoolObserver` of the larger model's engines: the metrics of engines are those of `[backend]`."""

    def observe_failover(self) -> None:
        """Say nothing."""

    def set_replicas(self, states: Mapping[ReplicaState, int], in_flight: int) -> None:
        """Say nothing."""
