"""The group record: what serving logs and training learns from. `router.record_codec` is its one serialisation.

Fields are only ever added, with a default; a record of a newer schema is refused rather than half understood. Records
are trees: the garbage collector, which looks for cycles, passes by those of which a log holds millions (`gc=False`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from router.domain import Sampling
from router.enums import Outcome, Purpose, Reason, Route, Status, Stopped, ToolOutcome

SCHEMA_VERSION = 1


class CheckRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One check's word on one sample, with the version of the verifier that gave it."""

    id: str
    type: str
    klass: str
    outcome: Outcome
    score: float | None
    ms: float
    version: str
    required: bool = True
    weight: float = 1.0
    coverage: float | None = None  # of a process check: share of the steps that it could read; None: there were none


class ToolCallRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a server-side tool: what the model wrote, and what it was told."""

    call_id: str
    name: str
    arguments: str
    outcome: ToolOutcome
    content: str
    ms: float


class TurnRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A completion of a sample that called server-side tools, with its own prompt and actions, and its calls."""

    message: dict[str, Any]
    finish_reason: str | None
    calls: tuple[ToolCallRecord, ...]
    prompt_token_ids: tuple[int, ...] | None = None  # None in the first turn: the group's
    completion_token_ids: tuple[int, ...] | None = None
    behavior_logprobs: tuple[float | None, ...] | None = None


class SampleRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One completion with its exact actions and behaviour log-probabilities (natural log, per sampled token)."""

    index: int
    message: dict[str, Any]
    finish_reason: str | None
    stop_reason: int | str | None = None
    truncated: bool = False  # ended by length: its end is not the model's choice
    censored: bool = False  # cancelled by our stop rule or a deadline: not wrong, not seen to its end
    completion_token_ids: tuple[int, ...] | None = None
    behavior_logprobs: tuple[float | None, ...] | None = None
    loss_mask: tuple[bool, ...] | None = None  # None: every completion token is the model's own action
    sampling: Sampling = Sampling()
    policy: str = ""
    checks: tuple[CheckRecord, ...] = ()
    reward: float | None = None  # composite score of the checks; None when undecided
    label_source: str = "none"  # verifier | none; later labels join by group id, they never edit this
    answer_key: str | None = None
    selected: bool = False
    rl_eligible: bool = False
    ineligible_reason: str | None = None
    turns: tuple[TurnRecord, ...] = ()  # what came before the completion, when the sample called server-side tools
    prompt_token_ids: tuple[int, ...] | None = None  # of the completion after those turns; None: the group's


class GroupRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Every sample drawn for one request, with all that is needed to verify, train on, or forget it."""

    schema_version: int = SCHEMA_VERSION
    group_id: str  # UUIDv7
    created_at: float  # Unix time, seconds
    request_id: str = ""
    # Privacy
    tenant: str
    train_consent: bool
    purpose: Purpose = Purpose.PROD
    replays: str | None = None  # the group whose prompt this one draws again for training
    heldout: bool = False  # never trained on
    # Prompt
    prompt_hash: str  # salted hash of the normalised prompt; decides `heldout`
    messages: tuple[dict[str, Any], ...]
    options: dict[str, Any] = {}
    verification: dict[str, Any] = {}  # the whole merged specification, references included
    prompt_token_ids: tuple[int, ...] | None = None
    # Behaviour policy
    base_model: str
    policy: str
    engine: str
    engine_version: str
    logprobs_mode: str
    template_fingerprint: str | None = None  # sha256 of the engine's token ids of a fixed conversation
    # Decoding
    route: Route
    stopped: Stopped
    escalated: bool = False
    audit: bool = False
    planned_samples: int
    difficulty: float
    group_propensity: float = 1.0  # probability, before the audit draw, of the route that was taken
    calibrated: float | None = None  # when the policy's calibration that decided was made; None: the heuristic
    task: str = "open"
    # Result
    status: Status
    reason: Reason
    profile: str | None = None
    score: float | None = None
    votes: int = 0
    samples: tuple[SampleRecord, ...]
    failures: tuple[str, ...] = ()  # draws that the engine did not complete, one line each
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None
    duration_s: float = 0.0


class SummaryCheck(msgspec.Struct, frozen=True):
    """Of a check that was asked for: its class."""

    klass: str


class SummarySpec(msgspec.Struct, frozen=True):
    """Of a verification specification: its checks."""

    checks: tuple[SummaryCheck, ...] = ()


class GroupSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The few fields of a `GroupRecord` by which groups are found."""

    schema_version: int
    group_id: str
    created_at: float
    tenant: str
    purpose: Purpose = Purpose.PROD
    replays: str | None = None
    policy: str
    route: Route
    status: Status
    reason: Reason
    profile: str | None = None
    verification: SummarySpec = SummarySpec()


class GroupHead(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The fields of a `GroupRecord` that decide whether it is kept, and whether it may train."""

    schema_version: int = SCHEMA_VERSION
    group_id: str
    created_at: float
    tenant: str
    train_consent: bool
    purpose: Purpose = Purpose.PROD
    replays: str | None = None
    heldout: bool = False
    prompt_hash: str
    base_model: str
    policy: str
    template_fingerprint: str | None = None


class GroupColumns(GroupHead, frozen=True, kw_only=True):
    """What a compacted group shows without being read: its head, and what groups are counted by."""

    engine: str
    engine_version: str
    route: Route
    stopped: Stopped
    audit: bool = False
    status: Status
    reason: Reason
    profile: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None


class CachedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A verified answer with its evidence: the only thing the cache stores."""

    key_digest: bytes  # the full digest of the request; compared on a hit, so a key collision is a miss
    status: Status
    message: dict[str, Any]
    finish_reason: str
    reason: Reason
    samples: int
    votes: int
    agreement: float
    difficulty: float
    score: float | None
    checks: tuple[CheckRecord, ...]
    group_id: str
    policy: str
    profile: str | None
    created_at: float
    stopped: Stopped = Stopped.DECISIVE

    def __post_init__(self) -> None:
        if self.status is not Status.VERIFIED:
            raise ValueError(f"only verified answers are cached, not {self.status}")
