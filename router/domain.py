"""The nouns of thinktwice: frozen values. Verbs are functions in the modules beside, closed sets are `router.enums`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

from router.enums import (
    CheckClass,
    OnFailure,
    Outcome,
    Reason,
    Route,
    Status,
    Stopped,
    TaskKind,
    ToolName,
    ToolOutcome,
)

MAX_SAMPLES = 5  # DESIGN section 2: `verification.samples.max` is at most 5


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling settings of one draw; `None` leaves a setting to the engine's default."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    max_tokens: int | None = None

    def fields(self) -> dict[str, Any]:
        """The settings that are set, under their names in the engine's API."""
        return {name: value for name in self.__slots__ if (value := getattr(self, name)) is not None}


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model is asked: the messages and every engine field that shapes its answer, sampling apart."""

    messages: tuple[Mapping[str, Any], ...]
    options: Mapping[str, Any] = field(default_factory=dict)  # tools, response_format, stop, logit_bias, ...
    sampling: Sampling = Sampling()

    @property
    def last_user_text(self) -> str:
        """The text of the last user message, the parts of a multi-part content joined; empty when there is none."""
        for message in reversed(self.messages):
            if message.get("role") == "user":
                return content_text(message.get("content"))
        return ""


def content_text(content: Any) -> str:
    """The text of an OpenAI message content: a string, or the text parts of a list joined by newlines."""
    if isinstance(content, str):
        return content
    if isinstance(content, list | tuple):
        return "\n".join(part["text"] for part in content if isinstance(part, Mapping) and "text" in part)
    return ""


def shown_text(message: Mapping[str, Any]) -> str:
    """All that a client would read of an assistant message: the text, the reasoning, the tool calls."""
    said = [content_text(message.get("content"))]
    said += [str(message.get(name) or "") for name in ("reasoning_content", "reasoning")]
    calls = [call.get("function") or {} for call in message.get("tool_calls") or ()]
    return "\n".join([*said, *(f"{call.get('name')} {call.get('arguments')}" for call in calls)]).strip("\n")


@dataclass(frozen=True, slots=True)
class CheckSpec:
    """One admitted check of a request. `params` holds the fields of its type, already validated."""

    id: str
    type: str
    klass: CheckClass
    version: str
    required: bool
    weight: float
    timeout_s: float
    params: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolDefinition:
    """A server-side tool as the model is told of it. `parameters` is the JSON schema of its arguments, an object."""

    name: ToolName
    version: str  # changes whenever an answer could; it travels to the cache key and the log
    description: str
    parameters: Mapping[str, Any]

    @property
    def function(self) -> dict[str, Any]:
        """Its entry in OpenAI's `tools`."""
        function = {"name": self.name.value, "description": self.description, "parameters": dict(self.parameters)}
        return {"type": "function", "function": function}


@dataclass(frozen=True, slots=True)
class VerificationSpec:
    """What the request, its profile and its response format ask of the answer, merged and bounded."""

    checks: tuple[CheckSpec, ...] = ()
    min_samples: int = 1
    max_samples: int = MAX_SAMPLES
    samples_given: bool = False  # the client or the profile set the bounds: they beat `reasoning_effort`
    on_failure: OnFailure = OnFailure.RETURN
    profile: str | None = None
    tools: tuple[ToolDefinition, ...] = ()  # the profile's: run here, between the turns of a sample
    max_turns: int = 1  # upstream calls that one sample may take; 1 without tools
    screens: tuple[CheckSpec, ...] = ()  # policy checks of what is asked, before anything is drawn

    @property
    def has_veto(self) -> bool:
        """Whether a check may withhold the answer, so that nothing of it is shown before."""
        return any(check.klass is CheckClass.VETO for check in self.checks)

    @property
    def has_oracle(self) -> bool:
        """Whether a decisive check can tell a right answer from a wrong one."""
        return any(check.klass is CheckClass.DECISIVE for check in self.checks)


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check's word on one candidate. `score` is in [0, 1]: `None` unless it failed, or passed and earns credit."""

    id: str
    type: str
    klass: CheckClass
    outcome: Outcome
    score: float | None
    ms: float
    version: str
    detail: str = ""
    key: str | None = None  # what a program computes, hashed: code votes by it
    coverage: float | None = None  # share of the steps that a process check could read; None: it found none


class Verdict(Struct, frozen=True):
    """The weighted composite of one candidate's checks (`router.verify.composite`)."""

    outcome: Outcome  # PASS: every required check passed; ERROR or TIMEOUT: one of them did not complete
    score: float | None
    decisive_passes: int
    decisive_completed: bool  # at least one decisive check, and each of them ended in pass or fail

    @property
    def verified(self) -> bool:
        """Whether the candidate passed every required check and at least one decisive one."""
        return self.outcome is Outcome.PASS and self.decisive_passes > 0


@dataclass(frozen=True, slots=True)
class ToolResult:
    """One call of a server-side tool, as the model wrote it, and what the model was told."""

    call_id: str
    name: str
    arguments: str
    outcome: ToolOutcome
    content: str
    ms: float


@dataclass(frozen=True, slots=True)
class Turn:
    """A step of a sample on the way to its answer: a completion that called tools, and their results."""

    message: Mapping[str, Any]
    finish_reason: str | None
    results: tuple[ToolResult, ...]
    prompt_token_ids: tuple[int, ...] | None = None  # None for the first: the group's
    token_ids: tuple[int, ...] | None = None
    logprobs: tuple[float | None, ...] | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One completion, as the engine returned it. Ids and logprobs are the engine's own, never re-encoded.

    One that called server-side tools is a conversation: `turns` led to it, and the rest is its last completion.
    """

    index: int  # launch order within the group, from 0
    message: Mapping[str, Any]
    finish_reason: str | None  # None: cut off before its end
    sampling: Sampling
    model: str
    stop_reason: int | str | None = None
    token_ids: tuple[int, ...] | None = None
    logprobs: tuple[float | None, ...] | None = None  # natural log, of the sampled tokens
    raw_logprobs: Mapping[str, Any] | None = None  # the engine's logprobs object, for a client that asked for it
    turns: tuple[Turn, ...] = ()
    prompt_token_ids: tuple[int, ...] | None = None  # of the last completion; None when it is the group's

    @property
    def text(self) -> str:
        """The text that checks read: the message's content, without the reasoning."""
        return content_text(self.message.get("content"))

    @property
    def shown(self) -> str:
        """What a veto is about."""
        return shown_text(self.message)

    @property
    def completed(self) -> bool:
        """Whether the engine ended it (a cancelled sample is censored, not wrong)."""
        return self.finish_reason is not None

    @property
    def mean_logprob(self) -> float | None:
        """Mean log-probability per token, in nats."""
        known = [value for value in self.logprobs or () if value is not None]
        return sum(known) / len(known) if known else None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sample with what was found about it."""

    sample: Sample
    answer_key: str | None  # canonical answer for the vote; None does not vote
    checks: tuple[CheckResult, ...]
    verdict: Verdict
    evidence: float = 0.0  # calibrated log-odds of being right that its own signals add; 0 without a calibration
    vote: int = 1  # 0: another model drew it, and it speaks by its evidence alone


class RouteDecision(Struct, frozen=True):
    """One sample or a vote, and why; logged with the group."""

    route: Route
    difficulty: float  # in [0, 1]
    task: TaskKind
    reason: str
    propensity: float  # probability, before the audit draw, of what was then decided
    audit: bool = False
    calibrated: float | None = None  # when the calibration of the policy that decided it was made; None: the heuristic


class Tokens(Struct, frozen=True):
    """Token counts of a request over all its samples."""

    prompt: int = 0
    completion: int = 0
    cached_prompt: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(
            self.prompt + other.prompt, self.completion + other.completion, self.cached_prompt + other.cached_prompt
        )


class Verification(Struct, frozen=True):
    """The response extension of DESIGN section 2."""

    status: Status
    reason: Reason
    route: Route
    escalated: bool
    samples: int
    votes: int
    agreement: float  # votes / samples
    difficulty: float
    stopped: Stopped
    profile: str | None
    score: float | None
    checks: tuple[CheckResult, ...]
    group_id: str
    policy: str
    cost_usd: float | None
    cached: bool = False


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What the start-up probe learnt of the engine; it decides whether logged rows can train."""

    engine: str
    version: str
    models: tuple[str, ...]
    token_ids: bool
    logprobs_mode: str  # "processed_logprobs", "raw_logprobs" or "unknown"
    max_model_len: int | None = None
    missing: tuple[str, ...] = ()  # one clause for each thing that keeps rows from training
    template_fingerprint: str | None = None  # sha256 of the token ids of a fixed conversation
