"""Which weights a model name means: the champion, a pinned policy, or nothing. Knows what the engine has loaded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from msgspec import Struct, to_builtins

from router.domain import EngineInfo
from router.errors import BackendUnavailable, ModelNotFound
from router.ports import Backend
from router.registry import Canary, Champion, PolicyRegistry

CHAMPION = "champion"
BASE = "base"  # names the base model where it can be promoted


class ResolvedPolicy(Struct, frozen=True):
    """A resolved name: what to ask the engine for, and the cache epoch it belongs to."""

    name: str
    base_model: str
    epoch: int
    shared: bool = False  # asked for as the champion: a canary, if there is one, serves some of these requests


def listing(registry: PolicyRegistry, base: str | None) -> dict[str, Any]:
    """The policies and which of them serves (null: the base model), as JSON values. Raises `RegistryError`."""
    policies = [
        {"name": policy.name, "path": str(policy.path), "manifest": policy.manifest} for policy in registry.policies()
    ]
    return {**described(registry.champion()), "base": base, "policies": policies}


def described(champion: Champion) -> dict[str, Any]:
    """Which policy serves, and which is on trial beside it, as JSON values."""
    return {"champion": champion.policy, "epoch": champion.epoch, "canary": to_builtins(champion.canary)}


class PolicyDirectory:
    """Names to policies, from the registry on disk and what the engine serves. Kept current by the watcher."""

    def __init__(self, registry: PolicyRegistry, backend: Backend, base_model: str | None) -> None:
        self._registry, self._backend, self._base_model = registry, backend, base_model
        self._served: frozenset[str] = frozenset()
        self._loading = asyncio.Lock()
        self._champion: Champion = registry.champion()
        self._known = registry.names()

    async def follow(self) -> None:
        """Let the registry's champion and its canary serve, once the engine has them; until then the one before serves.

        Raises `RegistryError` when the registry is damaged, `BackendError` when the engine cannot load the policy.
        """
        self._known = self._registry.names()
        champion = self._registry.champion()
        if champion.policy is not None:
            await self._load(champion.policy)
        self._champion = replace(champion, canary=None)
        if champion.canary is not None:
            await self._load(champion.canary.policy)
            self._champion = champion

    def engine_changed(self, info: EngineInfo) -> None:
        """Take note of the models the engine serves; without `[backend] model` the first is the base model."""
        self._served = frozenset(info.models)
        if self._base_model is None and info.models:
            self._base_model = info.models[0]

    def engine_lost(self) -> None:
        """An engine that went away comes back with nothing but its base model."""
        self._served = frozenset()

    def resolve(self, name: str, place: Callable[[], float] | None = None) -> ResolvedPolicy:
        """The policy a request's `model` names. Raises `ModelNotFound`, or `BackendUnavailable` before any probe.

        Requests for the champion whose `place`, in [0, 1), falls into the canary's share get the canary; those without
        one never do.
        """
        base, champion = self.base_model, self._champion
        if name in (base, CHAMPION):
            canary = champion.canary
            tried = canary is not None and place is not None and place() < canary.share
            served = canary.policy if canary is not None and tried else champion.policy or base
            return ResolvedPolicy(served, base, champion.cache_epoch, shared=place is not None)
        if name in self._known:
            return ResolvedPolicy(name, base, champion.cache_epoch)
        raise ModelNotFound(f"the model {name!r} does not exist; /v1/models lists those that do", "model")

    async def ready(self, name: str, place: Callable[[], float] | None = None) -> ResolvedPolicy:
        """What `resolve` says, with its adapter in the engine: a pinned policy is loaded when it is first asked for.

        Raises as `resolve`, `RegistryError`, and `BackendError` when the engine cannot load it.
        """
        try:
            policy = self.resolve(name, place)
        except ModelNotFound:  # perhaps registered since the watcher's last look
            self._known = self._registry.names()
            policy = self.resolve(name, place)
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

    @property
    def canary(self) -> Canary | None:
        """The policy on trial that serves some of the champion's requests."""
        return self._champion.canary

    @property
    def epoch(self) -> int:
        """The registry's epoch that this gateway follows."""
        return self._champion.epoch

    def names(self) -> tuple[str, ...]:
        """Every name a request may use: the base model, the alias, and the policies."""
        return (self.base_model, CHAMPION, *sorted(self._known))

    async def _load(self, name: str) -> None:
        async with self._loading:
            if name not in self._served:
                await self._backend.load_policy(name, self._registry.get(name).path.resolve())
                self._served |= {name}
