"""From trials to pass@1 and pass@5 of a task, and to how much there is to learn from its groups."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from gateway.bench.drive import Trial
from router.enums import Status
from router.questions import Question
from router.stats import Estimate, Rate, bootstrap_mean, mean, wilson

K = 5
BAND = (0.2, 0.6)  # pass@1 with room to rise and often both outcomes in a group
_JUDGED = (Status.VERIFIED, Status.FAILED)


@dataclass(frozen=True, slots=True)
class Arm:
    """The rows of a task with so many worked examples; `shots` is None for rows from a file."""

    task: str
    shots: int | None
    rows: Sequence[Question]
    max_tokens: int

    @property
    def name(self) -> str:
        """What tells it from other arms."""
        return self.task if self.shots is None else f"{self.task}/{self.shots}"


@dataclass(frozen=True, slots=True)
class TaskSummary:
    """What one arm did. Rates are over rows; samples without a verdict are errors, neither right nor wrong."""

    task: str
    shots: int | None
    rows: int
    max_tokens: int
    judged: int  # samples
    pass_1: Estimate
    pass_5: Estimate
    spread: Rate  # groups of a row's samples with both right and wrong ones
    constant: float | None  # share of the rows that the most common reference would solve
    completion_tokens: Estimate
    truncated: Estimate
    errors: Mapping[str, int]

    @property
    def in_band(self) -> bool:
        """Whether pass@1 lies in the band."""
        return self.pass_1.value is not None and BAND[0] <= self.pass_1.value <= BAND[1]


def pass_at_k(n: int, correct: int, k: int) -> float | None:
    """Chance that one of `k` samples is right, from `n` samples with `correct` right ones; None below `k` samples.

    The unbiased estimator 1 - C(n - c, k) / C(n, k) of M. Chen et al., Evaluating Large Language Models Trained on
    Code (2021), section 2.1.
    """
    return None if n < k else 1 - math.comb(n - correct, k) / math.comb(n, k)


def summarise_task(trials: Sequence[Trial], arm: Arm, seed: int = 0) -> TaskSummary:
    """The summary of the trials of one arm; `seed` is the bootstrap's."""
    own = [trial for trial in trials if trial.arm == arm.name]
    judged = [trial for trial in own if _fault(trial) is None]
    groups = [(len(group), sum(trial.solved for trial in group)) for group in _by_row(judged)]
    answered = _by_row(trial for trial in own if trial.reply)

    def passes(k: int) -> Estimate:
        rates = [pass_at_k(n, correct, k) for n, correct in groups]
        return rate_over_rows([rate for rate in rates if rate is not None], seed)

    return TaskSummary(
        task=arm.task,
        shots=arm.shots,
        rows=len(groups),
        max_tokens=arm.max_tokens,
        judged=len(judged),
        pass_1=passes(1),
        pass_5=passes(K),
        spread=wilson(sum(0 < correct < n for n, correct in groups), len(groups)),
        constant=_constant_share(arm.rows),
        completion_tokens=bootstrap_mean(_row_means(answered, _completion_tokens), seed=seed),
        truncated=rate_over_rows(_row_means(answered, _truncated), seed),
        errors=dict(Counter(fault for trial in own if (fault := _fault(trial)) is not None)),
    )


def rate_over_rows(rates: Sequence[float], seed: int = 0) -> Estimate:
    """The mean of the rows' rates with its interval over rows.

    Where every row is all or nothing, it is one Bernoulli trial and the interval is Wilson's, which keeps its width
    when all rows agree. Else it is the bootstrap over rows, for the samples of a row are not independent.
    """
    if any(0 < rate < 1 for rate in rates):
        return bootstrap_mean(rates, seed=seed)
    rate = wilson(round(sum(rates)), len(rates))
    return Estimate(rate.value, rate.n, rate.low, rate.high)


def _fault(trial: Trial) -> str | None:
    """Why the trial tells nothing of the model; None when it has a verdict."""
    if trial.reply is None:
        return trial.error
    verification = trial.reply.verification
    return None if verification["status"] in _JUDGED else f"{verification['status']} {verification['reason']}"


def _by_row(trials: Iterable[Trial]) -> list[list[Trial]]:
    """In the order of the rows, so that one seed gives one interval."""
    groups: defaultdict[int, list[Trial]] = defaultdict(list)
    for trial in trials:
        groups[trial.row].append(trial)
    return [groups[row] for row in sorted(groups)]


def _row_means(groups: Sequence[Sequence[Trial]], measure: Callable[[Trial], float]) -> list[float]:
    return [mean([measure(trial) for trial in group]) or 0.0 for group in groups]


def _completion_tokens(trial: Trial) -> float:
    return trial.reply.completion_tokens if trial.reply else 0


def _truncated(trial: Trial) -> float:
    return trial.reply is not None and trial.reply.finish_reason == "length"


def _constant_share(rows: Sequence[Question]) -> float | None:
    """How far a policy gets that always gives the same answer: what a task must leave well behind to show learning."""
    counts = Counter(msgspec.json.encode(row.verification) for row in rows)
    return max(counts.values()) / len(rows) if rows else None
