"""A calibration: the fitted numbers, and what serving computes with them. Plain Python, no more than sums."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, isfinite, log
from typing import Any

import msgspec

from router.calibration.features import FEATURES_VERSION, PromptFeatures, signals, steps
from router.domain import CheckResult, Sample
from router.enums import CheckClass, Outcome
from router.stopping import PassRate

SCHEMA_VERSION = 2
MAX_HISTORY = 512  # profiles, and tenants in them, that have a weight of their own
_EDGE = 0.005  # no prompt is believed to be solved more surely, or more rarely, than this leaves open
_PRIOR = 4.0  # escalated groups that a configured chance counts as
_MAX_LOG_ODDS = 4.0  # of one sample's signals: log-probabilities far from those fitted prove no more


class CheckRates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How often a check passes right answers and wrong ones, on `n` samples of known truth."""

    true_pass: float
    false_pass: float
    n: int

    def log_odds(self, outcome: Outcome) -> float:
        """What its word adds to the log-odds of a sample: ln(TPR/FPR) for a pass; an error adds nothing."""
        if outcome is Outcome.PASS:
            return log(self.true_pass / self.false_pass)
        if outcome is Outcome.FAIL:
            return log((1.0 - self.true_pass) / (1.0 - self.false_pass))
        return 0.0


class Linear(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Weights of standardised features: sum of `weight * (value - centre) / width`."""

    centres: tuple[float, ...]
    widths: tuple[float, ...]
    weights: tuple[float, ...]

    def of(self, values: Sequence[float]) -> float:
        """The weighted sum."""
        total = 0.0
        for value, centre, width, weight in zip(values, self.centres, self.widths, self.weights, strict=True):
            total += weight * (value - centre) / width
        return total


class Lengths(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What samples are expected to take: completion tokens by the prompt, and the means of the data."""

    mean: float
    prompt: float
    log_mean: float
    dense: Linear

    def of(self, features: PromptFeatures) -> float:
        """Completion tokens of one sample, within a factor of four of the mean."""
        return min(max(exp(min(self.log_mean + self.dense.of(features.dense), 30.0)), self.mean / 4), self.mean * 4)


class Quality(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How good the estimate is on prompts it was not fitted on (cross-validated)."""

    ece: float
    ece_floor: tuple[float, float, float]  # of a perfect estimate on as many prompts: 2.5 %, mean, 97.5 %
    brier: float
    auc: float
    base_brier: float  # of the mean pass rate alone


class Escalated(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How often a larger model solved what the policy's own samples had not, of `n` escalated groups in the log."""

    solved: int
    n: int

    def chance(self, configured: float) -> float:
        """The configured chance, which counts as `_PRIOR` groups, brought up to what was seen."""
        return (_PRIOR * configured + self.solved) / (_PRIOR + self.n)


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a solve rate costs: the value of a solved task, in completion tokens, at which the plan reaches it.

    `value` is None where not even full groups reach it: then no price limits a group. `reached` is what is expected.
    """

    solve_rate: float
    value: float | None
    reached: float


class Calibration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One policy's calibration, as its file holds it."""

    schema_version: int = SCHEMA_VERSION
    features_version: int = FEATURES_VERSION
    policy: str
    source: str
    created_at: float  # Unix time, seconds
    prompts: int
    samples: int
    quality: Quality
    intercept: float
    dense: Linear
    hashed: tuple[float, ...]  # a weight for each bucket
    history: dict[str, float]  # a weight for each profile, and for each tenant in a profile, that the data show often
    strength: float  # of the belief about a prompt, in samples
    spread: float  # of wrong answers: concentration of the Chinese restaurant process
    tokens: Lengths
    signals: Linear
    steps: dict[str, Linear]  # by type of process check
    rates: dict[str, CheckRates]  # by type of soft check
    escalations: dict[str, Escalated] = {}  # by model
    target: Target | None = None  # None: none was configured

    def solves(self, features: PromptFeatures) -> float:
        """Chance that one sample solves a prompt."""
        weights = self.hashed
        total = sum([weights[bucket] for bucket in features.hashed])
        logit = self.intercept + self.dense.of(features.dense) + features.scale * total
        for name in features.history:
            logit += self.history.get(name, 0.0)
        return min(max(1.0 / (1.0 + exp(-max(min(logit, 30.0), -30.0))), _EDGE), 1.0 - _EDGE)

    def belief(self, features: PromptFeatures) -> PassRate:
        """What is believed of a prompt's pass rate before any sample."""
        return PassRate.of(self.solves(features), self.strength)

    def evidence(self, sample: Sample, results: Sequence[CheckResult]) -> float:
        """Log-odds of being right that a sample's signals and its checks without proof add."""
        read = signals(sample)
        total = 0.0 if read is None else self.signals.of(read)
        for result in results:
            if result.klass is CheckClass.PROCESS and result.type in self.steps:
                found = steps(result)
                total += 0.0 if found is None else self.steps[result.type].of(found)
            elif result.klass is not CheckClass.DECISIVE and result.type in self.rates:
                total += self.rates[result.type].log_odds(result.outcome)
        return max(min(total, _MAX_LOG_ODDS), -_MAX_LOG_ODDS)


def finite(value: Any) -> bool:
    """Whether every number in a decoded JSON value is finite."""
    if isinstance(value, float):
        return isfinite(value)
    if isinstance(value, dict):
        return all(map(finite, value.values()))
    return all(map(finite, value)) if isinstance(value, list | tuple) else True
