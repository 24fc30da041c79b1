"""What the gateway keeps an eye on beside its requests: engine, cache, log, keys, the champion, its own loop."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from gateway.dependencies import UNPROBED, Dependencies
from gateway.learning import Learning
from gateway.policies import CHAMPION
from gateway.tenants.key_file import KeyDirectory
from gateway.tenants.limiter import Limiter
from router.errors import BackendError, BackendUnavailable, ConfigError, RegistryError

INTERVAL_S = 1.0  # a promotion reaches serving within two of these

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Health:
    """What `/readyz` says. `degraded` names what is down while requests are still answered."""

    engine_up: bool = False
    degraded: list[str] = field(default_factory=list)


class Watcher:
    """Looks at everything once an interval and keeps `health`, the engine's facts and the champion current."""

    def __init__(
        self, dependencies: Dependencies, keys: KeyDirectory, limiter: Limiter, *, cache_name: str, learning: Learning
    ) -> None:
        self._deps, self._keys, self._limiter, self._cache_name = dependencies, keys, limiter, cache_name
        self._learning = learning
        self._policy_fault: str | None = None
        self._keys_fault: str | None = None
        self.health = Health()

    async def run(self) -> None:
        """Look until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self.look()
            due = loop.time() + INTERVAL_S
            await asyncio.sleep(INTERVAL_S)
            self._deps.metrics.set_loop_lag(max(loop.time() - due, 0.0))

    async def look(self) -> None:
        """Look once."""
        deps = self._deps
        engine_up, cache_up, larger_up = await asyncio.gather(self._engine(), deps.store.alive(), self._larger())
        faults = {
            self._cache_name: not cache_up,
            "backend": engine_up and deps.backend.degraded is not None,
            "escalation": not larger_up,
            "log": deps.log.healthy is not None,
            "keys": not self._follow_keys(),
        }
        await self._limiter.flush()
        policy_fault = await self._policies()
        deps.metrics.set_cache(self._cache_name, cache_up)
        deps.metrics.set_log_queue(deps.log.queue_length)
        deps.metrics.set_verifier(deps.verifier.down)
        degraded = [*(name for name, down in faults.items() if down), *deps.verifier.down]
        self.health = Health(engine_up, degraded if policy_fault is None else [*degraded, policy_fault])

    async def _engine(self) -> bool:
        """Whether the engine answers; it is probed when it comes up, and again after it was down."""
        deps = self._deps
        if not await deps.backend.alive():
            if deps.engine is not UNPROBED:
                _log.warning("the engine no longer answers")
                deps.engine = UNPROBED
                deps.policies.engine_lost()
                deps.metrics.set_engine(None)
            return False
        if deps.engine is UNPROBED:
            try:
                deps.engine = await deps.backend.probe()
            except BackendError as error:
                _log.warning("the engine's probe failed: %s", error)
                return False
            deps.policies.engine_changed(deps.engine)
            deps.metrics.set_engine(deps.engine)
            self._say_what_is_missing()
        return bool(deps.engine.models)

    async def _larger(self) -> bool:
        """Whether the larger model can be asked, where there is one."""
        return self._deps.larger is None or await self._deps.larger.look()

    def _say_what_is_missing(self) -> None:
        info = self._deps.engine
        if info.missing:
            _log.warning("serving fine, training rows: 0, because %s", "; ".join(info.missing))
        else:
            _log.info(
                "engine %s %s: token ids and processed log-probabilities, rows can train", info.engine, info.version
            )

    def _follow_keys(self) -> bool:
        """Take up created and revoked keys; whether that went well."""
        fault = None
        try:
            self._keys.follow()
        except ConfigError as error:
            fault = str(error)
            if fault != self._keys_fault:
                _log.error("%s", fault)
        self._keys_fault = fault
        return fault is None

    async def _policies(self) -> str | None:
        """Follow the registry's champion; what keeps the gateway from it, if anything."""
        policies = self._deps.policies
        fault = None
        try:
            await policies.follow()
            if self._deps.canary is not None:
                await self._deps.canary.follow()
        except (RegistryError, OSError) as error:
            fault, why = "registry", str(error)
        except BackendError as error:
            fault, why = "policy", str(error)
        if fault is not None and why != self._policy_fault:
            _log.error("the champion cannot be followed, the last one keeps serving: %s", why)
        self._policy_fault = why if fault is not None else None
        with suppress(BackendUnavailable):  # no engine has answered yet, so there is no model to name
            self._deps.router = self._learning.follow(self._deps.router, partial(policies.resolve, CHAMPION))
            self._deps.metrics.set_policy(policies.champion, policies.base_model)
        return fault
