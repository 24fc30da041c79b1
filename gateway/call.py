"""A chat request, parsed once at the edge: everything after it works on these values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from msgspec import Struct

from router.domain import Prompt, VerificationSpec
from router.enums import Effort, Purpose


class Tenant(Struct, frozen=True):
    """Whose request it is, and whether its groups may train."""

    name: str
    train_consent: bool


class Replayed(Struct, frozen=True):
    """The logged group whose prompt is drawn again to train on, and its tenant, who the new group belongs to."""

    group_id: str
    tenant: str


@dataclass(frozen=True, slots=True)
class RetryKey:
    """The client's name for this request, should it send it again, and the digest that tells it from another."""

    HEADER: ClassVar[str] = "Idempotency-Key"

    key: str
    fingerprint: bytes


class ChatCall(Struct, frozen=True):
    """One accepted chat request."""

    request_id: str
    tenant: Tenant
    model: str  # as the client named it; echoed in the response
    prompt: Prompt
    spec: VerificationSpec
    effort: Effort
    stream: bool = False
    include_usage: bool = False
    n: int = 1
    logprobs: bool = False
    no_store: bool = False
    purpose: Purpose = Purpose.PROD
    replayed: Replayed | None = None  # of a call for `Purpose.REPLAY`
    retry_key: RetryKey | None = None
    timeout_s: float | None = None  # how long the client waits; the gateway's own deadline may be sooner
