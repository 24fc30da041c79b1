"""The route: one sample, or a vote of how many. Pure; the caller brings the random draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp
from typing import NamedTuple, TypeAlias

from msgspec.structs import replace

from router.calibration.features import PromptFeatures, prompt_features
from router.calibration.model import Calibration
from router.difficulty import detect_task, difficulty
from router.domain import CheckResult, Prompt, RouteDecision, Sample, VerificationSpec
from router.enums import CheckClass, Effort, Route
from router.plan import WASTE, Plan
from router.stopping import HARD, Seen, VoteBelief, best_return, wave_ends

Evidence: TypeAlias = Callable[[Sample, Sequence[CheckResult]], float]

NEAR = 0.1  # distance of the difficulty from its threshold within which a route may be drawn at random
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
    explore_margin: float = 0.25


class _Routed(NamedTuple):
    """A route, why, and near the boundary the choice that was not taken."""

    route: Route
    reason: str
    other: tuple[Route, Plan] | None = None


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
        self,
        prompt: Prompt,
        spec: VerificationSpec,
        effort: Effort,
        audit_draw: float | None,
        policy: str = "",
        tenant: str = "",
    ) -> tuple[RouteDecision, Plan]:
        """The decision and the decoding plan for it.

        `audit_draw` is uniform in [0, 1): below `audit_share` a prompt that could be voted gets a full group whatever
        the router says, so that there is an unbiased sample of the traffic; within `explore_share` above it a prompt
        near the boundary is routed by a fair coin; None does neither. The request's sample bounds beat the effort.
        `tenant` is a digest of its name.
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
            score, made = difficulty(prompt), None
            plan = replace(plan, belief=HARD) if requested else plan
        else:
            made = learned.calibration.created_at
            score, plan = _believed(learned, plan, prompt_features(prompt, task, spec.profile, tenant))
        judged = any(check.klass is not CheckClass.VETO for check in spec.checks)  # a veto compares nothing
        if maximum == 1 or not (judged or requested or task.comparable):
            return RouteDecision(Route.SINGLE, score, task, "one_sample", propensity=1.0, calibrated=made), plan
        route = _Routed(Route.VOTE, "requested") if requested else self._route(score, plan)
        decision = RouteDecision(route.route, score, task, route.reason, propensity=1.0, calibrated=made)
        return self._drawn(decision, plan, route.other, audit_draw)

    def learned(self, policy: str) -> Learned | None:
        """What is known of a policy; None without a calibration of it."""
        return self._learned if self._learned and self._learned.calibration.policy == policy else None

    def _route(self, score: float, plan: Plan) -> _Routed:
        """By price where there is one, else by the threshold."""
        settings = self._settings
        if plan.worth is None or plan.voting is None:
            hard = score >= settings.threshold
            other = (Route.SINGLE if hard else Route.VOTE, plan) if abs(score - settings.threshold) <= NEAR else None
            return _Routed(Route.VOTE, "hard", other) if hard else _Routed(Route.SINGLE, "easy", other)
        if plan.oracle:
            several = wave_ends(plan.belief, plan.payable, WASTE)[0] > 1
            value = plan.belief.chance_after(1) * plan.worth
        else:
            value = best_return(plan.voting, _DOUBTFUL, plan.maximum - 1, plan.worth)
            several = value > 1.0
        other = _other(plan, paid=value > 1.0) if abs(value - 1.0) <= settings.explore_margin else None
        return _Routed(Route.VOTE, "worth", other) if several else _Routed(Route.SINGLE, "not_worth", other)

    def _drawn(
        self, decision: RouteDecision, plan: Plan, other: tuple[Route, Plan] | None, audit_draw: float | None
    ) -> tuple[RouteDecision, Plan]:
        """The decision after the lottery, with the chance that it had in it."""
        if audit_draw is None:
            return decision, plan
        audited, explored = self._settings.audit_share, self._settings.explore_share
        if audit_draw < audited:
            full = replace(decision, route=Route.VOTE, reason="audit", propensity=audited, audit=True)
            return full, replace(plan, minimum=plan.maximum, full=True)
        if other is None:
            return replace(decision, propensity=1.0 - audited), plan
        if audit_draw < audited + explored / 2:
            return replace(decision, route=other[0], reason="explore", propensity=explored / 2), other[1]
        return replace(decision, propensity=1.0 - audited - explored / 2), plan


def _other(plan: Plan, *, paid: bool) -> tuple[Route, Plan]:
    """The choice that was not taken: one sample where more would pay, a group without a price where they would not."""
    return (Route.SINGLE, replace(plan, worth=0.0)) if paid else (Route.VOTE, replace(plan, worth=None))


def _believed(learned: Learned, plan: Plan, features: PromptFeatures) -> tuple[float, Plan]:
    """Difficulty, and the plan with what the calibration believes of the prompt."""
    calibration, worth = learned.calibration, None
    belief = calibration.belief(features)
    if learned.value is not None:
        lengths = calibration.tokens
        worth = learned.value / (lengths.of(features) + learned.prompt_share * lengths.prompt)
    return 1.0 - belief.mean, replace(plan, belief=belief, voting=VoteBelief(belief, calibration.spread), worth=worth)
