"""Errors in the OpenAI shape: one table from our error tree to status, type and code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.http.render import verification_json
from router.errors import (
    BackendError,
    BackendProtocolError,
    BackendRejected,
    BackendTimeout,
    BackendUnavailable,
    BudgetExceeded,
    CacheUnavailable,
    GroupNotFound,
    IdempotencyKeyInUse,
    IdempotencyKeyReused,
    InvalidKey,
    InvalidRequest,
    LogUnavailable,
    ModelNotFound,
    NotAdmitted,
    NotAnswered,
    Overloaded,
    PayloadTooLarge,
    PolicyConflict,
    PolicyNotFound,
    QuotaUnavailable,
    RateLimited,
    RecordError,
    RegistryError,
    ThinkTwiceError,
    UnknownProfile,
    VerificationFailed,
    VerifierUnavailable,
)


@dataclass(frozen=True, slots=True)
class Shape:
    """How one class of errors looks over HTTP, and whether (and in how many seconds) a client should try again."""

    status: int
    type: str
    code: str
    retry_after_s: int | None = None
    retry: bool = True


# Found along the class's MRO, so that a base class covers its family.
SHAPES: dict[type[ThinkTwiceError], Shape] = {
    InvalidRequest: Shape(400, "invalid_request_error", "invalid_request"),
    UnknownProfile: Shape(400, "invalid_request_error", "unknown_profile"),
    ModelNotFound: Shape(404, "invalid_request_error", "model_not_found"),
    PayloadTooLarge: Shape(413, "invalid_request_error", "payload_too_large"),
    IdempotencyKeyReused: Shape(422, "invalid_request_error", "idempotency_key_reused", retry=False),
    IdempotencyKeyInUse: Shape(409, "invalid_request_error", "idempotency_key_in_use", retry_after_s=1),
    GroupNotFound: Shape(404, "invalid_request_error", "group_not_found"),
    InvalidKey: Shape(401, "invalid_request_error", "invalid_api_key"),
    NotAdmitted: Shape(403, "permission_error", "forbidden"),
    RateLimited: Shape(429, "requests", "rate_limit_exceeded", retry_after_s=1),
    BudgetExceeded: Shape(429, "insufficient_quota", "insufficient_quota", retry=False),
    QuotaUnavailable: Shape(503, "server_error", "quota_unavailable", retry_after_s=5, retry=False),
    Overloaded: Shape(503, "server_error", "overloaded", retry_after_s=1),
    VerificationFailed: Shape(422, "verification_error", "verification_failed"),
    NotAnswered: Shape(422, "verification_error", "not_verified"),
    BackendError: Shape(502, "backend_error", "backend_error"),
    BackendProtocolError: Shape(502, "backend_error", "backend_protocol_error"),
    BackendUnavailable: Shape(503, "backend_error", "backend_unavailable", retry_after_s=2),
    BackendTimeout: Shape(504, "backend_error", "backend_timeout", retry=False),
    VerifierUnavailable: Shape(503, "verification_error", "verifier_unavailable", retry_after_s=5, retry=False),
    LogUnavailable: Shape(503, "server_error", "log_unavailable", retry_after_s=5, retry=False),
    CacheUnavailable: Shape(500, "server_error", "cache_unavailable"),  # caught in the service
    RecordError: Shape(500, "server_error", "log_damaged", retry=False),
    RegistryError: Shape(500, "server_error", "registry_error"),
    PolicyNotFound: Shape(404, "invalid_request_error", "policy_not_found"),
    PolicyConflict: Shape(409, "invalid_request_error", "policy_conflict", retry=False),
    ThinkTwiceError: Shape(500, "server_error", "internal_error"),
}


def shape_of(error: ThinkTwiceError) -> Shape:
    """The table's entry for the nearest class of `error`."""
    return next(SHAPES[cls] for cls in type(error).__mro__ if cls in SHAPES)


def status_of(error: ThinkTwiceError) -> int:
    """The HTTP status; an engine's refusal keeps its own."""
    return error.status if isinstance(error, BackendRejected) else shape_of(error).status


def error_body(error: ThinkTwiceError) -> dict[str, Any]:
    """The error object; an engine's refusal is passed on as it came."""
    if isinstance(error, BackendRejected):
        return dict(error.body)
    details: dict[str, Any] = {"param": getattr(error, "param", None), "code": error_code(error)}
    if isinstance(error, NotAnswered):
        details["verification"] = verification_json(error.verification)
    return plain_error(str(error), shape_of(error).type, **details)


def error_code(error: ThinkTwiceError) -> str:
    """The error object's `code`, of an error of our own."""
    return getattr(error, "code", None) or shape_of(error).code


def plain_error(message: str, kind: str, *, param: str | None = None, code: str, **more: Any) -> dict[str, Any]:
    """An OpenAI error object."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code, **more}}


def error_headers(error: ThinkTwiceError) -> dict[str, str]:
    """Advice to the client: when to come back, and `x-should-retry: false` where trying again cannot help."""
    shape = shape_of(error)
    headers = {} if shape.retry else {"x-should-retry": "false"}
    retry_after_s = shape.retry_after_s
    if isinstance(error, NotAdmitted):
        headers |= error.headers
        retry_after_s = error.retry_after_s or retry_after_s
    if retry_after_s is not None:
        headers["Retry-After"] = str(retry_after_s)
    if isinstance(error, BackendRejected) and error.retry_after is not None:
        headers["Retry-After"] = error.retry_after
    return headers
