"""Which weights a model name means: the champion, a pinned policy, or nothing. Knows what the engine has loaded."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from router.domain import EngineInfo
from router.errors import BackendUnavailable, ModelNotFound
from router.ports import Backend
from router.registry import Champion, PolicyRegistry

CHAMPION = "champion"
BASE = "base"  # names the base model where it can be promoted


@dataclass(frozen=True, slots=True)
class ResolvedPolicy:
    """A resolved name: what to ask the engine for, and the cache epoch it belongs to."""

    name: str
    base_model: str
    epoch: int


def listing(registry: PolicyRegistry, base: str | None) -> dict[str, Any]:
    """The policies and which of them serves (null: the base model), as JSON values. Raises `RegistryError`."""
    champion = registry.champion()
    policies = [
        {"name": policy.name, "path": str(policy.path), "manifest": policy.manifest} for policy in registry.policies()
    ]
    return {"champion": champion.policy, "epoch": champion.epoch, "base": base, "policies": policies}


class PolicyDirectory:
    """Names to policies, from the registry on disk and what the engine serves. Kept current by the watcher."""

    def __init__(self, registry: PolicyRegistry, backend: Backend, base_model: str | None) -> None:
        self._registry, self._backend, self._base_model = registry, backend, base_model
        self._served: frozenset[str] = frozenset()
        self._loading = asyncio.Lock()
        self._champion: Champion = registry.champion()
        self._known = registry.names()

    async def follow(self) -> None:
        """Let the registry's champion serve, once the engine has it; until then the one before keeps serving.

        Raises `RegistryError` when the registry is damaged, `BackendError` when the engine cannot load the policy.
        """
        self._known = self._registry.names()
        champion = self._registry.champion()
        if champion.policy is not None:
            await self._load(champion.policy)
        self._champion = champion

    def engine_changed(self, info: EngineInfo) -> None:
        """Take note of the models the engine serves; without `[backend] model` the first is the base model."""
        self._served = frozenset(info.models)
        if self._base_model is None and info.models:
            self._base_model = info.models[0]

    def engine_lost(self) -> None:
        """An engine that went away comes back with nothing but its base model."""
        self._served = frozenset()

    def resolve(self, name: str) -> ResolvedPolicy:
        """The policy a request's `model` names. Raises `ModelNotFound`, or `BackendUnavailable` before any probe."""
        base = self.base_model
        if name in (base, CHAMPION):
            return ResolvedPolicy(self._champion.policy or base, base, self._champion.epoch)
        if name in self._known:
            return ResolvedPolicy(name, base, self._champion.epoch)
        raise ModelNotFound(f"the model {name!r} does not exist; /v1/models lists those that do", "model")

    async def ready(self, name: str) -> ResolvedPolicy:
        """What `resolve` says, with its adapter in the engine: a pinned policy is loaded when it is first asked for.

        Raises as `resolve`, `RegistryError`, and `BackendError` when the engine cannot load it.
        """
        try:
            policy = self.resolve(name)
        except ModelNotFound:  # perhaps registered since the watcher's last look
            self._known = self._registry.names()
            policy = self.resolve(name)
        if policy.name not in self._served and policy.name != policy.base_model:
            await self._load(policy.name)
        return policy

    @property
    def base_model(self) -> str:
        """The base model's name at the engine. Raises `BackendUnavailable` while it is not known."""
        if self._base_model is None:
            raise BackendUnavailable("no engine has answered yet, so the model is not known")
        return self._base_model

    @property
    def champion(self) -> str:
        """The policy that serves now."""
        return self._champion.policy or self.base_model

    def names(self) -> tuple[str, ...]:
        """Every name a request may use: the base model, the alias, and the policies."""
        return (self.base_model, CHAMPION, *sorted(self._known))

    async def _load(self, name: str) -> None:
        async with self._loading:
            if name not in self._served:
                await self._backend.load_policy(name, self._registry.get(name).path.resolve())
                self._served |= {name}
