"""Which weights a model name means: the champion, a pinned policy, or nothing."""

from __future__ import annotations

from dataclasses import dataclass

from router.domain import EngineInfo
from router.errors import BackendUnavailable, ModelNotFound
from router.registry import Champion, PolicyRegistry

CHAMPION = "champion"


@dataclass(frozen=True, slots=True)
class ResolvedPolicy:
    """A resolved name: what to ask the engine for, and the cache epoch it belongs to."""

    name: str
    base_model: str
    epoch: int


class PolicyDirectory:
    """Names to policies, from the registry on disk and what the engine serves. Refreshed by the watcher."""

    def __init__(self, registry: PolicyRegistry, base_model: str | None) -> None:
        self._registry, self._base_model = registry, base_model
        self._served: tuple[str, ...] = ()
        self._champion: Champion = registry.champion()
        self._known = frozenset(policy.name for policy in registry.policies())

    def refresh(self) -> None:
        """Read the champion and the policies again. Raises `RegistryError` when the registry is damaged."""
        self._champion = self._registry.champion()
        self._known = frozenset(policy.name for policy in self._registry.policies())

    def engine_changed(self, info: EngineInfo) -> None:
        """Take note of the models the engine serves; without `[backend] model` the first is the base model."""
        self._served = info.models
        if self._base_model is None and info.models:
            self._base_model = info.models[0]

    def resolve(self, name: str) -> ResolvedPolicy:
        """The policy a request's `model` names. Raises `ModelNotFound`, or `BackendUnavailable` before any probe."""
        base = self.base_model
        if name in (base, CHAMPION):
            return ResolvedPolicy(self._champion.policy or base, base, self._champion.epoch)
        if name in self._known:
            return ResolvedPolicy(name, base, self._champion.epoch)
        raise ModelNotFound(f"the model {name!r} does not exist; /v1/models lists those that do", "model")

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
