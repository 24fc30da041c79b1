"""Every metric of a serving process: name, meaning, labels, buckets."""

from __future__ import annotations

from enum import StrEnum

from gateway.resilience.breaker import BreakerState
from gateway.resilience.replica_state import ReplicaState
from gateway.telemetry.families import OTHER, Families
from router.domain import MAX_SAMPLES
from router.enums import Outcome, Purpose, Reason, Route, Status, Stopped

CHECK_TYPES = (
    "math",
    "numeric",
    "exact",
    "choice",
    "regex",
    "json_schema",
    "constraints",
    "arithmetic_steps",
    "format",
    "python_tests",
    "python_outputs",
    "sql",
    "command",
    "policy",
    "judge",
)
VERIFIER_PARTS = ("verifier", "sandbox", "judge")
NO_ROUTE = "none"  # the request ended before a route was taken
DENIALS = (
    "invalid_api_key",
    "forbidden",
    "rate_limit_exceeded",
    "insufficient_quota",
    "quota_unavailable",
    "overloaded",
)
FINISHES = ("stop", "length", "tool_calls", "content_filter", "cancelled")
ERROR_CODES = ("400", "401", "403", "404", "409", "413", "422", "429", "499", "500", "502", "503", "504")
TRAINING = (
    "eligible",
    "other_policy",
    "censored",
    "tool_turns",
    "no_token_ids",
    "no_logprobs",
    "logprobs_mode",
    "length_mismatch",
    "logprob_floor",
    "sampling",
    "constrained",
)

_ROUTES = tuple(Route)
_DURATION_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 600)
_FIRST_TOKEN_BUCKETS = tuple(0.005 * 2**step for step in range(16))
_OVERHEAD_BUCKETS = tuple(0.0005 * 2**step for step in range(12))
_VERIFIER_BUCKETS = tuple(0.001 * 4**step for step in range(8))
_FSYNC_BUCKETS = tuple(0.0005 * 2**step for step in range(12))


class RequestOutcome(StrEnum):
    """How a request ended for its client."""

    OK = "ok"
    REFUSED = "refused"
    ERROR = "error"
    CANCELLED = "cancelled"


class CacheResult(StrEnum):
    """What the answer cache said of one request."""

    HIT = "hit"
    MISS = "miss"
    BYPASS = "bypass"  # `no-store`, or a request that is never cached
    ERROR = "error"  # the cache did not serve; treated as a miss


class Recheck(StrEnum):
    """What checking a cached answer again found."""

    AGREE = "agree"
    DISAGREE = "disagree"  # a required check fails now; the answer was removed
    ERROR = "error"  # the checks did not complete
    DROPPED = "dropped"


class IdempotencyResult(StrEnum):
    """What became of a request with an `Idempotency-Key`."""

    FIRST = "first"
    REPLAYED = "replayed"
    REUSED = "reused"  # with another body: 422
    IN_USE = "in_use"  # the first is still running: 409
    UNAVAILABLE = "unavailable"  # the store did not answer


class Leader(StrEnum):
    """Where the computation ran that a coalesced request waited for."""

    HERE = "here"
    ELSEWHERE = "elsewhere"  # another process with the same Redis


class Escalated(StrEnum):
    """What became of a sample that was asked of the larger model."""

    VERIFIED = "verified"
    UNVERIFIED = "unverified"
    ERROR = "error"  # its engine brought none


class Traffic:
    """Requests, their time, and what is in flight."""

    def __init__(self, families: Families) -> None:
        routes, outcomes = (*_ROUTES, NO_ROUTE), tuple(RequestOutcome)
        self.requests = families.counter(
            "requests_total",
            "Chat requests by how they ended",
            {"route": routes, "outcome": outcomes, "code_class": ("2xx", "4xx", "5xx"), "stream": ("true", "false")},
        )
        self.errors = families.counter(
            "errors_total", "Requests answered by an error, by HTTP status", {"code": (*ERROR_CODES, OTHER)}
        )
        self.denied = families.counter(
            "denied_requests_total", "Requests not admitted, on any route, by error code", {"code": DENIALS}
        )
        self.duration = families.histogram(
            "request_duration_seconds",
            "Wall time of a chat request",
            _DURATION_BUCKETS,
            {"route": routes, "outcome": outcomes},
        )
        self.first_token = families.histogram(
            "time_to_first_token_seconds", "Time until the first content left", _FIRST_TOKEN_BUCKETS, {"route": _ROUTES}
        )
        self.overhead = families.histogram(
            "overhead_seconds",
            "Wall time of a request outside the engine and the verifiers",
            _OVERHEAD_BUCKETS,
            {"route": _ROUTES},
        )
        self.inflight = families.gauge("inflight_requests", "Chat requests being served")
        self.queued = families.gauge("queued_requests", "Requests that wait for room among those being served")
        self.loop_lag = families.gauge("event_loop_lag_seconds", "How late the event loop ran its last timer")


class Answers:
    """What is claimed of answers, and the samples and checks behind it."""

    def __init__(self, families: Families, verifiers: tuple[str, ...]) -> None:
        self.answers = families.counter(
            "answers_total",
            "Answers and refusals by what is claimed of them",
            {"route": _ROUTES, "status": tuple(Status), "purpose": tuple(Purpose)},
        )
        self.stopped = families.counter(
            "groups_stopped_total",
            "Groups by what ended their sampling; `shed`: the engines were busy",
            {"route": (Route.SINGLE, Route.VOTE), "stopped": tuple(Stopped)},
        )
        self.refusals = families.counter(
            "refusals_total", "Answers withheld by `on_failure`, by reason", {"reason": tuple(Reason)}
        )
        self.escalations = families.counter(
            "escalations_total",
            "Groups that went on where their own samples failed, by what they went on to and final status",
            {"to": ("vote", "larger"), "status": Status},
        )
        self.escalated = families.counter(
            "escalated_samples_total", "Samples asked of the larger model", {"result": tuple(Escalated)}
        )
        self.samples_per_request = families.histogram(
            "samples_per_request",
            "Samples drawn for one request, the cache apart",
            tuple(range(1, MAX_SAMPLES + 1)),
            {"route": (Route.SINGLE, Route.VOTE)},
        )
        self.samples = families.counter(
            "samples_total", "Samples by how they ended", {"model": (), "finish": (*FINISHES, OTHER)}
        )
        self.verifications = families.counter(
            "verifications_total",
            "Checks run on samples, by outcome; `error` and `timeout` are ours, neither pass nor fail",
            {"verifier": (*verifiers, OTHER), "outcome": tuple(Outcome)},
        )
        self.verifier_up = families.gauge(
            "verifier_up", "0 while this part of verification is down", {"part": VERIFIER_PARTS}
        )
        self.verifier_duration = families.histogram(
            "verifier_duration_seconds", "Time of one check", _VERIFIER_BUCKETS, {"verifier": (*verifiers, OTHER)}
        )


class Spending:
    """Tokens and dollars."""

    def __init__(self, families: Families) -> None:
        self.tokens = families.counter(
            "tokens_total",
            "Tokens of all samples; `input` is without `cached_input`",
            {"model": (), "type": ("input", "cached_input", "output"), "purpose": tuple(Purpose)},
        )
        self.cost = families.counter(
            "cost_usd_total",
            "Cost of answers in US dollars, by the configured prices",
            {"route": _ROUTES, "purpose": tuple(Purpose)},
        )
        self.unpriced = families.counter("unpriced_answers_total", "Answers of a model without a configured price")


class Stores:
    """The answer cache and the group log."""

    def __init__(self, families: Families) -> None:
        self.lookups = families.counter(
            "cache_lookups_total", "Answer cache lookups; hit ratio is hit / (hit + miss)", {"result": CacheResult}
        )
        self.cache_up = families.gauge("cache_up", "1 while the answer cache serves", {"store": ("redis", "memory")})
        self.coalesced = families.counter(
            "coalesced_requests_total",
            "Requests answered by another's computation that was under way, by where it ran",
            {"leader": tuple(Leader)},
        )
        self.idempotency = families.counter(
            "idempotent_requests_total",
            "Requests with an Idempotency-Key; `unavailable`: served as if they had none",
            {"result": tuple(IdempotencyResult)},
        )
        self.rechecks = families.counter(
            "cache_rechecks_total",
            "Cache hits checked again in the background; `dropped`: the workers were busy",
            {"result": tuple(Recheck)},
        )
        self.rejected = families.counter(
            "cache_rejected_total", "Stored values that were damaged or not written with this gateway's secret: misses"
        )
        self.breaker = families.gauge(
            "cache_breaker_state",
            "1 for the state of the breaker before Redis; `open`: served without it",
            {"state": tuple(BreakerState)},
        )
        self.appended = families.counter("grouplog_appended_total", "Groups handed to the group log")
        self.refused = families.counter("grouplog_refused_total", "Requests refused because the group log is not ready")
        self.rows = families.counter(
            "grouplog_samples_total",
            "Logged samples: `eligible` for RL, or why not",
            {"training": (*TRAINING, OTHER)},
        )
        self.queue = families.gauge("grouplog_queue_groups", "Groups waiting for the disk")
        self.fsync = families.histogram("grouplog_fsync_seconds", "Time of one group commit", _FSYNC_BUCKETS)


class Identity:
    """Who serves."""

    def __init__(self, families: Families) -> None:
        self.overflow = families.counter(
            "label_overflow_total", "Label values folded to `other`", {"label": ("model", "verifier", "training")}
        )
        self.policy = families.gauge("policy_info", "1 for the policy that serves", {"policy": (), "base_model": ()})
        self.engine = families.gauge(
            "engine_info", "1 for the engine found", {"engine": (), "version": (), "logprobs_mode": ()}
        )
        self.engine_up = families.gauge("engine_up", "1 while an engine answers its health check")


class Engines:
    """The engines behind the gateway."""

    def __init__(self, families: Families) -> None:
        self.replicas = families.gauge(
            "engine_replicas",
            "Engines by whether they are used; `open`: the breaker is, `unfit`: unlike the others or not yet known",
            {"state": tuple(ReplicaState)},
        )
        self.inflight = families.gauge("inflight_samples", "Samples the engines generate for this process")
        self.failovers = families.counter("engine_failovers_total", "Requests that went on to a second engine")
