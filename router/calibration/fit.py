"""Fitting a calibration. Needs numpy, which serving does not load."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import lgamma, log
from typing import Any

import numpy as np
import numpy.typing as npt

from router.calibration.features import BUCKETS, PROMPT_FEATURES, SIGNALS
from router.calibration.measure import auc, brier, calibration_error, reliability
from router.calibration.model import Calibration, CheckRates, Lengths, Linear, Quality
from router.calibration.observe import Observation, SampleSeen
from router.enums import Outcome
from router.errors import CalibrationError

Floats = npt.NDArray[np.float64]

MIN_PROMPTS = 40  # of known outcome; below it the mean alone is uncertain by more than 0.15
FOLDS = 5
_OVERDISPERSION = 0.5  # share of the variance of outcomes that lies between prompts, for the weight of a group
_STRENGTHS = tuple(0.25 * 2.0 ** (step / 2) for step in range(15))  # 0.25 to 32 samples
_SPREADS = tuple(0.1 * 2.0 ** (step / 2) for step in range(21))  # 0.1 to about 100
REPEATS = 3  # of the cross-validation, each on other folds; their mean is steadier
_PENALTIES = ((1.0, 4.0), (4.0, 16.0), (16.0, 64.0), (64.0, 256.0))  # of dense and of hashed weights
_SIGNAL_PENALTY = _LENGTH_PENALTY = 4.0
_FLOOR_DRAWS = 200
_NEWTON_STEPS = 6


@dataclass(frozen=True, slots=True)
class Fitted:
    """A calibration with the chance it gave each prompt, and each prompt's first sample, when it was held out."""

    calibration: Calibration
    held_out: tuple[float, ...]


def fit(observations: Sequence[Observation], *, policy: str, source: str, now: float, seed: int = 0) -> Fitted:
    """Fit on prompts with judged samples; the penalty and every reported quality are cross-validated over prompts.

    Each prompt counts with its inverse propensity. A group that was stopped by its own outcomes enters with the
    likelihood of what was seen, which the stopping rule does not change. Raises `CalibrationError` when there are too
    few prompts, or all samples solved or all failed.
    """
    _check(observations)
    design = _Design.of(observations)
    rng = np.random.default_rng(seed)
    splits = [rng.permutation(len(observations)) % FOLDS for _ in range(REPEATS)]
    held_out = {
        penalty: np.mean([_held_out(design, folds, penalty) for folds in splits], axis=0) for penalty in _PENALTIES
    }
    penalty = min(_PENALTIES, key=lambda each: _log_loss(design, held_out[each]))
    chances = held_out[penalty]
    weights = _logistic(design.rows, design.rates, design.weights, design.penalties(penalty))
    strength = min(_STRENGTHS, key=lambda each: -_pass_rates(observations, chances, each))
    calibration = Calibration(
        policy=policy,
        source=source,
        created_at=now,
        prompts=len(observations),
        samples=sum(len(each.samples) for each in observations),
        quality=_quality(observations, chances, strength, rng),
        intercept=float(weights[0]),
        dense=Linear(design.centres, design.widths, tuple(map(float, weights[1 : 1 + len(PROMPT_FEATURES)]))),
        hashed=tuple(map(float, weights[1 + len(PROMPT_FEATURES) :])),
        strength=strength,
        spread=min(_SPREADS, key=lambda each: -_partitions(observations, each)),
        tokens=_tokens(observations, design),
        signals=_signals(observations, chances),
        rates=_rates(observations),
    )
    return Fitted(calibration, tuple(map(float, chances)))


def _check(observations: Sequence[Observation]) -> None:
    if len(observations) < MIN_PROMPTS:
        raise CalibrationError(
            f"{len(observations)} prompts have a judged sample and {MIN_PROMPTS} are needed: the heuristic stays"
        )
    solved = sum(each.solved for each in observations)
    if solved in (0, sum(len(each.samples) for each in observations)):
        what = "no sample" if solved == 0 else "every sample"
        raise CalibrationError(f"{what} solved its prompt, so there is nothing to tell apart: the heuristic stays")
    values = [value for each in observations for value in each.features.dense]
    values += [value for each in observations for sample in each.samples for value in sample.signals or ()]
    if not np.isfinite(values).all():
        raise CalibrationError("a feature is not a finite number: the data are damaged, the heuristic stays")


@dataclass(frozen=True, slots=True)
class _Design:
    """The regression: a row for each prompt, an intercept before the dense and the hashed features."""

    rows: Floats
    rates: Floats
    weights: Floats
    centres: tuple[float, ...]
    widths: tuple[float, ...]

    @classmethod
    def of(cls, observations: Sequence[Observation]) -> _Design:
        dense = np.array([each.features.dense for each in observations])
        centres, widths = dense.mean(axis=0), dense.std(axis=0)
        widths[widths < 1e-9] = 1.0
        rows = np.zeros((len(observations), 1 + dense.shape[1] + BUCKETS))
        rows[:, 0] = 1.0
        rows[:, 1 : 1 + dense.shape[1]] = (dense - centres) / widths
        for row, each in zip(rows, observations, strict=True):
            row[[1 + dense.shape[1] + bucket for bucket in each.features.hashed]] = each.features.scale
        sizes = np.array([len(each.samples) for each in observations])
        weights = np.array([each.weight for each in observations])
        weights *= len(observations) / weights.sum() * sizes / (1 + (sizes - 1) * _OVERDISPERSION)
        rates = np.array([each.solved for each in observations]) / sizes
        return cls(rows, rates, weights, tuple(map(float, centres)), tuple(map(float, widths)))

    def penalties(self, penalty: tuple[float, float]) -> Floats:
        dense, hashed = penalty
        return np.array([1e-3] + [dense] * len(PROMPT_FEATURES) + [hashed] * BUCKETS)


def _held_out(design: _Design, folds: npt.NDArray[np.int64], penalty: tuple[float, float]) -> Floats:
    chances = np.empty(len(design.rates))
    for fold in range(FOLDS):
        rest, out = folds != fold, folds == fold
        weights = _logistic(design.rows[rest], design.rates[rest], design.weights[rest], design.penalties(penalty))
        chances[out] = _sigmoid(design.rows[out] @ weights)
    return np.clip(chances, 0.005, 0.995)


def _logistic(rows: Floats, rates: Floats, weights: Floats, penalties: Floats, offsets: Floats | float = 0.0) -> Floats:
    """Ridge logistic regression by Newton's method (iteratively reweighted least squares).

    Solved for the features, or for the rows where they are fewer: the two are the same step (Woodbury's identity).
    """
    dual = len(rows) < rows.shape[1]
    scaled = rows / penalties
    kernel = scaled @ rows.T if dual else np.empty(0)
    found: npt.NDArray[Any] = np.zeros(rows.shape[1])
    for _ in range(_NEWTON_STEPS):
        linear = rows @ found
        chances = _sigmoid(linear + offsets)
        curvature = weights * np.maximum(chances * (1 - chances), 1e-6)
        target = linear + weights * (rates - chances) / curvature
        if dual:
            found = np.asarray(scaled.T @ np.linalg.solve(kernel + np.diag(1 / curvature), target))
        else:
            found = np.linalg.solve(
                (rows * curvature[:, None]).T @ rows + np.diag(penalties), rows.T @ (curvature * target)
            )
    return found


def _sigmoid(logits: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-np.clip(logits, -30, 30)))


def _log_loss(design: _Design, chances: Floats) -> float:
    losses = design.rates * np.log(chances) + (1 - design.rates) * np.log(1 - chances)
    return -float(np.sum(design.weights * losses))


def _pass_rates(observations: Sequence[Observation], chances: Floats, strength: float) -> float:
    """Log-likelihood of the outcomes when each prompt's pass rate is Beta around its chance (beta-binomial)."""
    total = 0.0
    for each, chance in zip(observations, chances, strict=True):
        solved, failed = strength * chance, strength * (1 - chance)
        wins, losses = each.solved, len(each.samples) - each.solved
        likelihood = lgamma(solved + wins) - lgamma(solved) + lgamma(failed + losses) - lgamma(failed)
        total += each.weight * (likelihood + lgamma(strength) - lgamma(strength + wins + losses))
    return total


def _partitions(observations: Sequence[Observation], spread: float) -> float:
    """Log-likelihood of how wrong answers fell together (Ewens' sampling formula)."""
    total = 0.0
    for each in observations:
        blocks = Counter(sample.key for sample in each.samples if not sample.solved and sample.key is not None)
        wrong = blocks.total()
        total += len(blocks) * log(spread) + lgamma(spread) - lgamma(spread + wrong)
    return total


def _signals(observations: Sequence[Observation], chances: Floats) -> Linear:
    """What a sample's own signals add to the log-odds of its prompt, among samples that gave an answer."""
    rows, solved, offsets, weights = [], [], [], []
    for each, chance in zip(observations, chances, strict=True):
        told = [sample for sample in each.samples if sample.signals is not None and sample.key is not None]
        for sample in told:
            rows.append(sample.signals)
            solved.append(float(sample.solved))
            offsets.append(log(chance / (1 - chance)))
            weights.append(1.0 / (1 + (len(told) - 1) * _OVERDISPERSION))
    if not rows:
        return Linear((0.0,) * len(SIGNALS), (1.0,) * len(SIGNALS), (0.0,) * len(SIGNALS))
    values = np.array(rows)
    centres, widths = values.mean(axis=0), values.std(axis=0)
    widths[widths < 1e-9] = 1.0
    design = np.column_stack([np.ones(len(values)), (values - centres) / widths])
    penalties = np.array([1e-3] + [_SIGNAL_PENALTY] * len(SIGNALS))
    found = _logistic(design, np.array(solved), np.array(weights), penalties, np.array(offsets))
    return Linear(tuple(map(float, centres)), tuple(map(float, widths)), tuple(map(float, found[1:])))


def _rates(observations: Sequence[Observation]) -> dict[str, CheckRates]:
    """How often each check without proof passes right and wrong samples, one pass and one fail added to both."""
    seen: defaultdict[str, Counter[tuple[bool, Outcome]]] = defaultdict(Counter)
    samples: list[SampleSeen] = [sample for each in observations for sample in each.samples]
    for sample in samples:
        for name, outcome in sample.checks:
            if outcome in (Outcome.PASS, Outcome.FAIL):
                seen[name][sample.solved, outcome] += 1
    return {
        name: CheckRates(
            true_pass=(counts[True, Outcome.PASS] + 1) / (counts[True, Outcome.PASS] + counts[True, Outcome.FAIL] + 2),
            false_pass=(counts[False, Outcome.PASS] + 1)
            / (counts[False, Outcome.PASS] + counts[False, Outcome.FAIL] + 2),
            n=counts.total(),
        )
        for name, counts in sorted(seen.items())
    }


def _tokens(observations: Sequence[Observation], design: _Design) -> Lengths:
    """Ridge regression of the log of a prompt's mean completion tokens on its dense features."""
    rows = design.rows[:, : 1 + len(PROMPT_FEATURES)]
    means = [sum(sample.tokens for sample in each.samples) / len(each.samples) for each in observations]
    logs = np.log(np.maximum(means, 1.0))
    penalties = np.diag([1e-3] + [_LENGTH_PENALTY] * len(PROMPT_FEATURES))
    found = np.linalg.solve(rows.T @ rows + penalties, rows.T @ logs)
    return Lengths(
        mean=float(np.mean([sample.tokens for each in observations for sample in each.samples])),
        prompt=float(np.mean([each.prompt_tokens for each in observations])),
        log_mean=float(found[0]),
        dense=Linear(design.centres, design.widths, tuple(map(float, found[1:]))),
    )


def _quality(
    observations: Sequence[Observation], chances: Floats, strength: float, rng: np.random.Generator
) -> Quality:
    sizes = [len(each.samples) for each in observations]
    solved = [each.solved for each in observations]
    told = [float(chance) for chance, size in zip(chances, sizes, strict=True) for _ in range(size)]
    happened = _outcomes(solved, sizes)
    base = sum(happened) / len(happened)
    floors = []
    for _ in range(_FLOOR_DRAWS):
        drawn = rng.binomial(sizes, rng.beta(strength * chances, strength * (1 - chances)))
        floors.append(calibration_error(reliability(told, _outcomes(drawn.tolist(), sizes))))
    low, high = np.quantile(floors, [0.025, 0.975])
    return Quality(
        ece=calibration_error(reliability(told, happened)),
        ece_floor=(float(low), float(np.mean(floors)), float(high)),
        brier=brier(told, happened),
        auc=auc(told, happened),
        base_brier=brier([base] * len(happened), happened),
    )


def _outcomes(solved: Sequence[int], sizes: Sequence[int]) -> list[bool]:
    return [number < won for won, size in zip(solved, sizes, strict=True) for number in range(size)]
