"""From trials to estimates with intervals: one summary a policy, and the paired differences between policies."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gateway.bench.drive import Trial
from gateway.client import Reply
from router.enums import Status
from router.stats import Estimate, Rate, bootstrap, bootstrap_mean, bootstrap_ratio, paired_difference, quantile, wilson


@dataclass(frozen=True, slots=True)
class PolicySummary:
    """What one policy did. Tokens, cost and samples are of answered requests; an error counts as not solved."""

    policy: str
    n: int
    solve_rate: Rate
    tokens_per_request: Estimate
    tokens_per_solved: Estimate
    cost_per_solved_usd: Estimate  # no value while any answer has no price
    wall_s_p50: Estimate
    wall_s_total: float  # summed over requests; they overlap
    samples_mean: Estimate
    statuses: Mapping[str, Rate]
    errors: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Difference:
    """`policy` minus `baseline` on the rows that both ran."""

    policy: str
    baseline: str
    solve_rate: Estimate
    tokens_per_request: Estimate
    cost_per_request_usd: Estimate
    wall_s: Estimate


def summarise(trials: Sequence[Trial], policy: str, seed: int = 0) -> PolicySummary:
    """The summary of the trials of one policy; `seed` is the bootstrap's."""
    own = [trial for trial in trials if trial.arm == policy]
    answered = [(trial, trial.reply) for trial in own if trial.reply is not None]
    tokens = [float(reply.tokens) for _, reply in answered]
    solved = [float(trial.solved) for trial, _ in answered]
    costs = [cost for _, reply in answered if (cost := _cost(reply)) is not None]
    statuses = Counter(str(reply.verification["status"]) for _, reply in answered)
    walls = [trial.wall_s for trial in own]
    return PolicySummary(
        policy=policy,
        n=len(own),
        solve_rate=wilson(sum(trial.solved for trial in own), len(own)),
        tokens_per_request=bootstrap_mean(tokens, seed=seed),
        tokens_per_solved=bootstrap_ratio(tokens, solved, seed=seed),
        cost_per_solved_usd=(
            bootstrap_ratio(costs, solved, seed=seed)
            if len(costs) == len(answered)
            else Estimate(None, len(costs), None, None)
        ),
        wall_s_p50=bootstrap(walls, lambda drawn: quantile(drawn, 0.5), seed=seed),
        wall_s_total=sum(walls),
        samples_mean=bootstrap_mean([float(reply.verification["samples"]) for _, reply in answered], seed=seed),
        statuses={status: wilson(statuses[status], len(own)) for status in Status},
        errors=dict(Counter(trial.error for trial in own if trial.error is not None)),
    )


def differences(trials: Sequence[Trial], policies: Sequence[str], seed: int = 0) -> tuple[Difference, ...]:
    """Every later policy against every earlier one."""
    by_policy = {policy: {trial.row: trial for trial in trials if trial.arm == policy} for policy in policies}
    return tuple(
        _difference(policy, baseline, by_policy, seed) for baseline, policy in itertools.combinations(policies, 2)
    )


def _difference(policy: str, baseline: str, by_policy: Mapping[str, Mapping[int, Trial]], seed: int) -> Difference:
    ours, theirs = by_policy[policy], by_policy[baseline]
    pairs = [(ours[row], theirs[row]) for row in sorted(ours.keys() & theirs.keys())]

    def paired(measure: Callable[[Trial], float | None]) -> Estimate:
        measured = [(measure(a), measure(b)) for a, b in pairs]
        return bootstrap_mean([a - b for a, b in measured if a is not None and b is not None], seed=seed)

    return Difference(
        policy=policy,
        baseline=baseline,
        solve_rate=paired_difference([(a.solved, b.solved) for a, b in pairs]),
        tokens_per_request=paired(lambda trial: trial.reply.tokens if trial.reply else None),
        cost_per_request_usd=paired(lambda trial: _cost(trial.reply) if trial.reply else None),
        wall_s=paired(lambda trial: trial.wall_s),
    )


def _cost(reply: Reply) -> float | None:
    cost = reply.verification["cost_usd"]
    return None if cost is None else float(cost)
