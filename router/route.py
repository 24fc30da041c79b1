"""The route: one sample, or a vote of how many. Pure; the caller brings the random draw."""

from __future__ import annotations

from dataclasses import replace

from router.difficulty import detect_task, difficulty
from router.domain import Prompt, RouteDecision, VerificationSpec
from router.enums import CheckClass, Effort, Route
from router.plan import Plan


class Router:
    """Decides by difficulty threshold. All settings are those of `[router]`, passed as plain values."""

    def __init__(self, *, threshold: float, quorum: float, max_samples: int, audit_share: float) -> None:
        self._threshold, self._quorum = threshold, quorum
        self._max_samples, self._audit_share = max_samples, audit_share

    def decide(
        self, prompt: Prompt, spec: VerificationSpec, effort: Effort, audit_draw: float | None
    ) -> tuple[RouteDecision, Plan]:
        """The decision and the decoding plan for it.

        `audit_draw` is uniform in [0, 1): below `audit_share` a prompt that could be voted gets a full group whatever
        the router says, so that there is an unbiased sample of the traffic; None audits nothing. The request's sample
        bounds beat the effort.
        """
        task = detect_task(prompt, spec.checks)
        score = difficulty(prompt)
        maximum = min(spec.max_samples, self._max_samples)
        if effort.single_sample and not spec.samples_given:
            maximum = 1
        minimum = min(spec.min_samples, maximum)
        judged = any(check.klass is not CheckClass.VETO for check in spec.checks)  # a veto compares nothing
        votable = judged or effort.full_allowance or minimum > 1 or task.comparable
        plan = Plan(minimum, maximum, spec.has_oracle, self._quorum)
        if maximum == 1 or not votable:
            return RouteDecision(Route.SINGLE, score, task, "one_sample", propensity=1.0), plan
        audit_share = 0.0 if audit_draw is None else self._audit_share
        if audit_draw is not None and audit_draw < audit_share:
            decision = RouteDecision(Route.VOTE, score, task, "audit", propensity=audit_share, audit=True)
            return decision, replace(plan, minimum=maximum, full=True)
        route, reason = Route.SINGLE, "easy"
        if effort.full_allowance or minimum > 1:
            route, reason = Route.VOTE, "requested"
        elif score >= self._threshold:
            route, reason = Route.VOTE, "hard"
        return RouteDecision(route, score, task, reason, propensity=1.0 - audit_share), plan
