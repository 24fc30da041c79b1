"""Keeping several engines alike: which of them answer, whether they are the same, and the adapters each has to have."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from gateway.adapters.replica import Replica
from router.domain import EngineInfo
from router.errors import BackendError, BackendUnavailable

_SILENT = "it does not answer"

_log = logging.getLogger(__name__)


class Roster:
    """The engines of one pool. The facts of the first that was probed count; one that differs is not used.

    An engine settles in the background after it came up: it is probed, compared, and given the adapters it lacks.
    """

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self._replicas = replicas
        self._reference: EngineInfo | None = None
        self._policies: dict[str, Path] = {}  # what every engine is to have: folder by name

    async def close(self) -> None:
        """End what is settling."""
        for task in self._settling():
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def look(self) -> bool:
        """Ask every engine for its health; whether one may be used, or may be once it has settled."""
        await asyncio.gather(*(self._look(replica) for replica in self._replicas))
        if not any(replica.up for replica in self._replicas):
            self._reference = None
        return any(replica.up and replica.unfit is None for replica in self._replicas)

    async def facts(self) -> EngineInfo:
        """The reference facts, once an engine has settled. Raises `BackendUnavailable` when none can.

        `models` is the base model alone: adapters are per engine, and are loaded through `load_policy`.
        """
        while self._reference is None and (settling := self._settling()):
            await asyncio.wait(settling, return_when=asyncio.FIRST_COMPLETED)
        if self._reference is None:
            faults = "; ".join(f"{each.name}: {each.fault}" for each in self._replicas)
            raise BackendUnavailable(f"no engine can be used: {faults}")
        return replace(self._reference, models=self._reference.models[:1])

    def serves(self, replica: Replica, model: str) -> bool:
        """Whether a request for this model may go to this engine."""
        return replica.usable and (model not in self._policies or model in replica.adapters)

    async def load_policy(self, name: str, folder: Path) -> None:
        """Load an adapter into every engine that is up. Raises the first `BackendError` when none took it."""
        up = [replica for replica in self._replicas if replica.usable]
        faults = await asyncio.gather(*(self._give(each, name, folder) for each in up))
        if all(faults):
            raise next(filter(None, faults), BackendUnavailable(f"no engine is up to load {name}"))
        self._policies[name] = folder
        for replica, fault in zip(up, faults, strict=True):
            replica.fault = str(fault) if fault else replica.fault

    async def _look(self, replica: Replica) -> None:
        if not await replica.engine.alive():
            if replica.fault != _SILENT:
                _log.warning("the engine at %s does not answer", replica.name)
            replica.lost()
            replica.fault = _SILENT
            return
        replica.up = True
        settled = replica.unfit is not None or (replica.facts is not None and self._policies.keys() <= replica.adapters)
        if not settled and (replica.settling is None or replica.settling.done()):
            replica.settling = asyncio.create_task(self._settle(replica))

    async def _settle(self, replica: Replica) -> None:
        """Probe, compare, and load what is missing; tried again at the next look when the engine fails it."""
        fault: str | None = None
        try:
            if replica.facts is None:
                facts = await replica.engine.probe()
                replica.unfit = fault = self._compare(facts)
                replica.facts = facts
        except BackendError as error:
            fault = f"its probe failed: {error}"
        if fault is None:
            missing = self._policies.keys() - replica.adapters
            refused = [
                why for name in sorted(missing) if (why := await self._give(replica, name, self._policies[name]))
            ]
            fault = str(refused[0]) if refused else None
        if fault is not None and fault != replica.fault:
            _log.warning("the engine at %s is not used as it should be: %s", replica.name, fault)
        elif fault is None and replica.fault is not None:
            _log.info("the engine at %s serves", replica.name)
        replica.fault = fault

    def _compare(self, facts: EngineInfo) -> str | None:
        """Why an engine cannot stand in for the others; the first one that serves a model sets the measure."""
        if not facts.models:
            return "it serves no base model"
        if self._reference is None:
            self._reference = facts
            return None
        ours, its = _identity(self._reference), _identity(facts)
        different = [f"its {what} is {its[what]}, not {ours[what]}" for what in ours if ours[what] != its[what]]
        return "; ".join(different) or None

    async def _give(self, replica: Replica, name: str, folder: Path) -> BackendError | None:
        try:
            await replica.engine.load_policy(name, folder)
        except BackendError as error:
            return error
        replica.adapters.add(name)
        return None

    def _settling(self) -> list[asyncio.Task[None]]:
        return [task for each in self._replicas if (task := each.settling) is not None and not task.done()]


def _identity(facts: EngineInfo) -> dict[str, str]:
    """What makes answers and logged rows of two engines one kind."""
    return {
        "model": facts.models[0],
        "logprobs mode": facts.logprobs_mode,
        "token ids": "returned" if facts.token_ids else "missing",
        "chat template": facts.template_fingerprint or "unknown",
    }
