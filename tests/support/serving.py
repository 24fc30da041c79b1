"""The service over fakes: everything a chat call passes through, in one process and without a socket."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.adapters.memory_store import MemoryStore
from gateway.call import ChatCall, Tenant
from gateway.cost import cost_usd, price_of
from gateway.dependencies import Dependencies
from gateway.larger import LargerModel
from gateway.policies import PolicyDirectory
from gateway.service import AnswerService
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.scorecard import Scorecard
from gateway.tenants.metering import LARGER, MeteredBackend
from router.domain import CheckSpec, VerificationSpec
from router.enums import Effort
from router.ports import Backend
from router.registry import PolicyRegistry
from router.route import Router, RouterSettings
from router.settings import EscalationSection, PriceSection, RedisSection
from tests.support.builders import prompt
from tests.support.fakes import ENGINE, Line, ListLog, ScriptedBackend, TextVerifier

EASY, OPEN = "What is 2 + 2?", "Tell me a story."


@dataclass(frozen=True, slots=True)
class Serving:
    """A service with its fakes."""

    deps: Dependencies
    service: AnswerService
    backend: ScriptedBackend
    verifier: TextVerifier
    store: MemoryStore
    log: ListLog
    registry: PolicyRegistry

    def metric(self, sample: str) -> float:
        """The value of a sample at /metrics, its labels in the order of the exposition."""
        return metric(self.deps.metrics.render()[0].decode(), sample)


def metric(exposition: str, sample: str) -> float:
    """The value of one sample of an exposition; 0 when it is not there yet."""
    found = re.search(rf"^{re.escape(sample)} (\S+)$", exposition, re.MULTILINE)
    return float(found[1]) if found else 0.0


def serving(state_dir: Path, *lines: Line | str, **changes: Any) -> Serving:
    """A service whose engine says `lines` in turn. Nothing is audited or held out unless `changes` say so."""
    backend = ScriptedBackend([line if isinstance(line, Line) else Line(line) for line in lines])
    verifier, store, log = TextVerifier(), MemoryStore(100), ListLog()
    registry = PolicyRegistry(state_dir)
    policies = PolicyDirectory(registry, backend, "base")
    prices: Mapping[str, PriceSection] = changes.pop("prices", {})
    audit_share = changes.pop("audit_share", 0.0)
    values: dict[str, Any] = {
        "backend": MeteredBackend(backend),
        "verifier": verifier,
        "store": store,
        "log": log,
        "policies": policies,
        "router": Router(RouterSettings(threshold=0.5, quorum=0.9, max_samples=5, audit_share=audit_share)),
        "metrics": Metrics(),
        "scorecard": Scorecard(lambda name, tokens: cost_usd(tokens, price_of(prices, policies.resolve(name)))),
        "prices": prices,
        "deadline_s": 5.0,
        "heldout_share": 0.0,
        "salt": b"s" * 32,
        "caching": RedisSection(),
        "engine": ENGINE,
    }
    deps = Dependencies(**(values | changes))
    return Serving(deps, AnswerService(deps), backend, verifier, store, log, registry)


def larger_model(backend: Backend, price: PriceSection | None = None, **terms: Any) -> LargerModel:
    """A second model `big` that says the backend's lines; `terms` are `usd_per_solve` and the keys of its section."""
    value = terms.pop("usd_per_solve", None)
    section = EscalationSection.model_validate({"url": "http://127.0.0.1:9", "model": "big", **terms})
    larger = LargerModel(section, MeteredBackend(backend, LARGER), price, value)
    larger.facts = ENGINE
    return larger


def call(text: str = EASY, *checks: CheckSpec, **fields: Any) -> ChatCall:
    """A chat call of one user message. `on_failure`, `min_samples` and the like go to its specification."""
    spec = {name: fields.pop(name) for name in VerificationSpec.__slots__ if name in fields}
    values: dict[str, Any] = {
        "request_id": "req-1",
        "tenant": Tenant("local", train_consent=True),
        "model": "champion",
        "prompt": fields.pop("prompt", None) or prompt(text),
        "spec": VerificationSpec(checks=checks, **spec),
        "effort": Effort.MEDIUM,
    }
    return ChatCall(**(values | fields))
