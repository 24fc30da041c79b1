"""An answer as the service made it, before it takes the wire's form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from gateway.call import ChatCall
from gateway.policies import ResolvedPolicy
from router.decode import Decoded, Task
from router.domain import Candidate, RouteDecision, Tokens, Verification
from router.enums import CheckClass, OnFailure, Outcome, Purpose, Route, Status
from router.errors import NotVerified, VerificationFailed
from router.plan import Plan
from router.records import CachedAnswer, GroupRecord
from router.vote import Ballot


class Routed(Struct, frozen=True):
    """What the router decided of a request, and the group that it becomes."""

    group_id: str
    task: Task
    decision: RouteDecision
    plan: Plan


@dataclass(frozen=True)
class Prepared:
    """An admitted request. It is routed when that is first asked for: a verified answer from the cache needs no route.

    `deadline` is in seconds of the running event loop's clock.
    """

    call: ChatCall
    policy: ResolvedPolicy
    deadline: float
    route: Callable[[], Routed]

    @cached_property
    def routed(self) -> Routed:
        """The router's decision, the same however often it is asked for."""
        return self.route()

    @property
    def group_id(self) -> str:
        """The group that the request becomes."""
        return self.routed.group_id

    @property
    def task(self) -> Task:
        """The request as decoding sees it."""
        return self.routed.task

    @property
    def decision(self) -> RouteDecision:
        """One sample or a vote, and why."""
        return self.routed.decision

    @property
    def plan(self) -> Plan:
        """How many samples may be drawn."""
        return self.routed.plan

    @property
    def live(self) -> bool:
        """Whether the answer streams as it is generated, with the verdict at its end.

        Only a single sample can, and with a decisive check only where the client asked for low effort: elsewhere the
        check may still replace or withhold the answer (DESIGN section 2). Nor can one with server-side tools: what it
        writes beside a call is no answer.
        """
        call = self.call
        if not call.stream or call.spec.tools or call.spec.has_veto:  # what was shown cannot be withheld
            return False
        unchecked = not self.plan.oracle or (call.effort.single_sample and self.plan.maximum == 1)
        return unchecked and self.decision.route is Route.SINGLE

    @property
    def most_samples(self) -> int:
        """The most samples that may be drawn: a single one is escalated only when an oracle can refuse it."""
        fixed = self.decision.route is Route.SINGLE and not self.plan.oracle
        return self.call.n if fixed else self.plan.maximum

    @property
    def most_draws(self) -> int:
        """The most completions that may be drawn: each sample takes as many turns as its tools may need."""
        return self.most_samples * self.call.spec.max_turns

    @property
    def escalable(self) -> bool:
        """Whether a larger model may add a sample, where there is one (`gateway.escalation`)."""
        call, policy = self.call, self.policy
        pinned = call.model == policy.name != policy.base_model
        single = call.n > 1 or (call.effort.single_sample and not call.spec.samples_given)
        return not (pinned or single or self.plan.full or self.live or call.purpose is not Purpose.PROD)

    @property
    def cacheable(self) -> bool:
        """Whether a verified answer may come from the cache or go to it."""
        call = self.call
        bypassed = call.no_store or call.logprobs or call.purpose is not Purpose.PROD or self.live
        return call.spec.has_oracle and not bypassed


class Concluded(Struct, frozen=True):
    """A decoded request with its vote and what may be claimed of the answer."""

    decoded: Decoded
    ballot: Ballot
    verification: Verification


class Solved(Struct, frozen=True):
    """A decoded request that was logged. `entry` is what went to the cache; None unless it is verified."""

    concluded: Concluded
    record: GroupRecord
    completion: Mapping[str, Any] | None = None  # the engine's own object, on the single path
    entry: CachedAnswer | None = None


class Answer(Struct, frozen=True):
    """What goes back to the client."""

    verification: Verification
    message: Mapping[str, Any]
    finish_reason: str | None
    tokens: Tokens  # of the policy
    stop_reason: int | str | None = None
    raw_logprobs: Mapping[str, Any] | None = None
    completion: Mapping[str, Any] | None = None  # the engine's own object, on the single path
    closing: Mapping[str, Any] | None = None  # the engine's own last chunk, with its usage, of a live stream
    overhead_s: float = 0.0
    larger: Tokens = Tokens()  # of the larger model, beside those of the policy

    @property
    def billed(self) -> Tokens:
        """Tokens of all samples."""
        return self.tokens + self.larger


def is_vetoed(candidate: Candidate) -> bool:
    """Whether a check with a veto did not pass; that it could not be judged is no leave to show it."""
    return any(each.klass is CheckClass.VETO and each.outcome is not Outcome.PASS for each in candidate.checks)


def withheld(answer: Answer, on_failure: OnFailure, *, vetoed: bool) -> Answer:
    """What the client gets instead of an answer that did not verify (DESIGN section 2)."""
    verification = answer.verification
    failed = verification.status is Status.FAILED
    if on_failure is OnFailure.ERROR:
        error = VerificationFailed if failed else NotVerified
        raise error(f"no answer was verified: {verification.reason.value}", verification)
    refusal = "No answer passed its checks." if failed else "No answer could be verified."
    if vetoed:
        refusal = "The answer was withheld by the content policy."
    message = {"role": "assistant", "content": None, "refusal": refusal}
    return replace(answer, message=message, finish_reason="content_filter", raw_logprobs=None, completion=None)
