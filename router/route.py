"""The route: one sample, or a vote of how many. Pure; the caller brings the random draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp
from typing import TypeAlias

from msgspec.structs import replace

from router.calibration.features import prompt_features
from router.calibration.model import Calibration
from router.difficulty import detect_task, difficulty
from router.domain import CheckResult, Prompt, RouteDecision, Sample, VerificationSpec
from router.enums import CheckClass, Effort, Route, TaskKind
from router.plan import WASTE, Plan
from router.stopping import HARD, Seen, VoteBelief, paying_batch, wave_ends

Evidence: TypeAlias = Callable[[Sample, Sequence[CheckResult]], float]

NEAR = 0.1  # distance from the threshold within which a route may be drawn at random
_DOUBTFUL = Seen((1,), (exp(-1.0),), 1)  # a first answer whose own signals speak against it


@dataclass(frozen=True, slots=True)
class Learned:
    """A calibration in use.

    `value` is what a solved task is worth, in the price of a completion token, of which a prompt token costs
    `prompt_share`; None sets no price.
    """

    calibration: Calibration
    value: float | None = None
    prompt_share: float = 0.0


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """Those of `[router]` that decide a route, as plain values."""

    threshold: float
    quorum: float
    max_samples: int
    audit_share: float
    explore_share: float = 0.0


class Router:
    """Decides by calibrated difficulty where there is a calibration of the policy, else by the heuristic's."""

    def __init__(self, settings: RouterSettings, learned: Learned | None = None) -> None:
        self._settings, self._learned = settings, learned

    def learning(self, learned: Learned | None) -> Router:
        """The same router with another calibration, or none."""
        return Router(self._settings, learned)

    def evidence(self, policy: str) -> Evidence | None:
        """What weighs the samples of a policy; None without a calibration of it."""
        learned = self.learned(policy)
        return learned.calibration.evidence if learned else None

    def decide(
        self, prompt: Prompt, spec: VerificationSpec, effort: Effort, audit_draw: float | None, policy: str = ""
    ) -> tuple[RouteDecision, Plan]:
        """The decision and the decoding plan for it.

        `audit_draw` is uniform in [0, 1): below `audit_share` a prompt that could be voted gets a full group whatever
        the router says, so that there is an unbiased sample of the traffic; within `explore_share` above it a prompt
        near the threshold is routed by a fair coin; None does neither. The request's sample bounds beat the effort.
        """
        task = detect_task(prompt, spec.checks)
        maximum = min(spec.max_samples, self._settings.max_samples)
        if effort.single_sample and not spec.samples_given:
            maximum = 1
        minimum = min(spec.min_samples, maximum)
        requested = effort.full_allowance or minimum > 1
        plan = Plan(minimum, maximum, spec.has_oracle, self._settings.quorum)
        learned = self.learned(policy)
        if learned is None:
            score = difficulty(prompt)
            plan = replace(plan, belief=HARD) if requested else plan
        else:
            score, plan = _believed(learned, plan, prompt, spec, task)
        judged = any(check.klass is not CheckClass.VETO for check in spec.checks)  # a veto compares nothing
        if maximum == 1 or not (judged or requested or task.comparable):
            return RouteDecision(Route.SINGLE, score, task, "one_sample", propensity=1.0), plan
        route, reason = (Route.VOTE, "requested") if requested else self._route(score, plan)
        return self._drawn(RouteDecision(route, score, task, reason, propensity=1.0), plan, audit_draw)

    def learned(self, policy: str) -> Learned | None:
        """What is known of a policy; None without a calibration of it."""
        return self._learned if self._learned and self._learned.calibration.policy == policy else None

    def _route(self, score: float, plan: Plan) -> tuple[Route, str]:
        """By price where there is one, else by the threshold."""
        if plan.worth is None or plan.voting is None:
            hard = score >= self._settings.threshold
            return (Route.VOTE, "hard") if hard else (Route.SINGLE, "easy")
        if plan.oracle:
            several = wave_ends(plan.belief, plan.payable, WASTE)[0] > 1
        else:
            several = paying_batch(plan.voting, _DOUBTFUL, plan.maximum - 1, plan.worth)[0] > 0
        return (Route.VOTE, "worth") if several else (Route.SINGLE, "not_worth")

    def _drawn(self, decision: RouteDecision, plan: Plan, audit_draw: float | None) -> tuple[RouteDecision, Plan]:
        """The decision after the lottery, with the chance that it had in it."""
        if audit_draw is None:
            return decision, plan
        audited, explored = self._settings.audit_share, self._settings.explore_share
        if audit_draw < audited:
            full = replace(decision, route=Route.VOTE, reason="audit", propensity=audited, audit=True)
            return full, replace(plan, minimum=plan.maximum, full=True)
        near = decision.reason != "requested" and abs(decision.difficulty - self._settings.threshold) <= NEAR
        if not near:
            return replace(decision, propensity=1.0 - audited), plan
        if audit_draw < audited + explored / 2:
            other = Route.SINGLE if decision.route is Route.VOTE else Route.VOTE
            return replace(decision, route=other, reason="explore", propensity=explored / 2), plan
        return replace(decision, propensity=1.0 - audited - explored / 2), plan


def _believed(
    learned: Learned, plan: Plan, prompt: Prompt, spec: VerificationSpec, task: TaskKind
) -> tuple[float, Plan]:
    """Difficulty, and the plan with what the calibration believes of the prompt."""
    calibration = learned.calibration
    features = prompt_features(prompt, task, spec.profile)
    belief, worth = calibration.belief(features), None
    if learned.value is not None:
        lengths = calibration.tokens
        worth = learned.value / (lengths.of(features) + learned.prompt_share * lengths.prompt)
    return 1.0 - belief.mean, replace(plan, belief=belief, voting=VoteBelief(belief, calibration.spread), worth=worth)
