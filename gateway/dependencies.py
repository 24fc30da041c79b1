"""What the service works with. Only `gateway.bootstrap` makes one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

from gateway.audits import Audits
from gateway.canary import CanaryWatch
from gateway.larger import LargerModel
from gateway.policies import PolicyDirectory
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.scorecard import Scorecard
from router.domain import EngineInfo
from router.guardrails import Guardrails
from router.ports import Backend, GroupLog, Store, Tool, Verifier
from router.route import Router
from router.settings import PriceSection, RedisSection

UNPROBED = EngineInfo("unknown", "unknown", (), False, "unknown", missing=("it has not been probed yet",))


@dataclass(slots=True)
class Dependencies:
    """The ports and values of one serving process. `engine` is what the last probe found."""

    backend: Backend
    verifier: Verifier
    store: Store
    log: GroupLog
    policies: PolicyDirectory
    router: Router
    metrics: Metrics
    scorecard: Scorecard
    prices: Mapping[str, PriceSection]
    deadline_s: float
    heldout_share: float
    salt: bytes
    caching: RedisSection
    guardrails: Guardrails = field(default_factory=Guardrails)
    audits: Audits | None = None
    canary: CanaryWatch | None = None
    engine: EngineInfo = UNPROBED
    tools: Mapping[str, Tool] = field(default_factory=dict)  # the server-side tools, by name
    shed_inflight: int = 512
    larger: LargerModel | None = None
    in_flight: Callable[[], int] = lambda: 0  # samples the engines generate for this process

    def cache_salt(self, tenant: str) -> str:
        """The prefix-cache salt of a tenant: no tenant can time another's prompts. Keyed BLAKE2b of the secret salt."""
        return blake2b(tenant.encode(), key=self.salt, person=b"prefix-cache", digest_size=16).hexdigest()

    def seal_key(self, purpose: str) -> bytes:
        """The key that seals stored values of one kind, 32 bytes derived from the secret salt (keyed BLAKE2b)."""
        return blake2b(purpose.encode(), key=self.salt, person=b"seal", digest_size=32).digest()
