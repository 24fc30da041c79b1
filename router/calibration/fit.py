"""Fitting a calibration. Needs numpy, which serving does not load."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import lgamma, log
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from router.calibration.features import BUCKETS, PROMPT_FEATURES, SIGNALS, STEPS
from router.calibration.measure import auc, brier, calibration_error, reliability
from router.calibration.model import Calibration, CheckRates, Lengths, Linear, Quality
from router.calibration.observe import Observation, SampleSeen
from router.calibration.regression import Design, Floats, logistic
from router.enums import Outcome
from router.errors import CalibrationError

Folds: TypeAlias = npt.NDArray[np.int64]

MIN_PROMPTS = 40  # of known outcome; below it the mean alone is uncertain by more than 0.15
FOLDS = 5
_OVERDISPERSION = 0.5  # share of the variance of outcomes that lies between prompts, for the weight of its samples
_STRENGTH, _ROUNDS = 1.0, 2  # where the search for the strength begins, and how often it is found and fitted with
_STRENGTHS = tuple(0.25 * 2.0 ** (step / 2) for step in range(15))  # 0.25 to 32 samples
_SPREADS = tuple(0.1 * 2.0 ** (step / 2) for step in range(21))  # 0.1 to about 100
REPEATS = 3  # of the cross-validation, each on other folds; their mean is steadier
_PENALTIES = ((1.0, 4.0), (4.0, 16.0), (16.0, 64.0), (64.0, 256.0))  # of dense and of hashed weights
_SIGNAL_PENALTY = _LENGTH_PENALTY = 4.0
_FLOOR_DRAWS = 200


@dataclass(frozen=True, slots=True)
class Fitted:
    """A calibration with the chance it gave each prompt, and each prompt's first sample, when it was held out."""

    calibration: Calibration
    held_out: tuple[float, ...]


def fit(observations: Sequence[Observation], *, policy: str, source: str, now: float, seed: int = 0) -> Fitted:
    """Fit on prompts with judged samples; the penalty and every reported quality are cross-validated over prompts.

    Each prompt counts with its inverse propensity. A group that was stopped by its own outcomes enters with the
    likelihood of what was seen, which the stopping rule does not change. Raises `CalibrationError` when there are too
    few prompts, all samples solved or all failed, or none has a length.
    """
    _check(observations)
    design = Design.of(observations)
    rng = np.random.default_rng(seed)
    splits = [rng.permutation(len(observations)) % FOLDS for _ in range(REPEATS)]
    chances, penalty, strength = _held_out(design, splits)
    weights = design.weights(penalty, strength)
    dense, hashed = 1 + len(PROMPT_FEATURES), 1 + len(PROMPT_FEATURES) + BUCKETS
    signals = _signals(observations, chances)
    calibration = Calibration(
        policy=policy,
        source=source,
        created_at=now,
        prompts=len(observations),
        samples=sum(len(each.samples) for each in observations),
        quality=_quality(observations, chances, strength, rng),
        intercept=float(weights[0]),
        dense=Linear(design.centres, design.widths, tuple(map(float, weights[1:dense]))),
        hashed=tuple(map(float, weights[dense:hashed])),
        history=dict(zip(design.histories, map(float, weights[hashed:]), strict=True)),
        strength=strength,
        spread=min(_SPREADS, key=lambda each: -_partitions(observations, each)),
        tokens=_tokens(observations, design),
        signals=signals,
        steps=_steps(observations, chances, signals),
        rates=_rates(observations),
    )
    return Fitted(calibration, tuple(map(float, chances)))


def _held_out(design: Design, splits: Sequence[Folds]) -> tuple[Floats, tuple[float, float], float]:
    """Chances of prompts that were held out, and the penalty and the strength under which they are likeliest."""

    def chances(penalty: tuple[float, float], strength: float) -> Floats:
        return np.asarray(np.mean([design.held_out(folds, penalty, strength) for folds in splits], axis=0))

    def likeliest(held_out: Floats) -> float:
        return float(max(_STRENGTHS, key=partial(design.outcomes.likelihood, held_out)))

    by_penalty = {each: chances(each, _STRENGTH) for each in _PENALTIES}
    penalty = max(_PENALTIES, key=lambda each: design.outcomes.likelihood(by_penalty[each], _STRENGTH))
    found, strength = by_penalty[penalty], _STRENGTH
    for _ in range(_ROUNDS):
        strength = likeliest(found)
        found = chances(penalty, strength)
    return found, penalty, strength


def _check(observations: Sequence[Observation]) -> None:
    if len(observations) < MIN_PROMPTS:
        raise CalibrationError(
            f"{len(observations)} prompts have a judged sample and {MIN_PROMPTS} are needed: the heuristic stays"
        )
    solved = sum(each.solved for each in observations)
    if solved in (0, sum(len(each.samples) for each in observations)):
        what = "no sample" if solved == 0 else "every sample"
        raise CalibrationError(f"{what} solved its prompt, so there is nothing to tell apart: the heuristic stays")
    if not any(sample.tokens for each in observations for sample in each.samples):
        raise CalibrationError(
            "no sample has token ids or log-probabilities, so that what one costs is not known: the heuristic stays "
            "until an engine that returns them has served"
        )
    values = [value for each in observations for value in each.features.dense]
    values += [value for each in observations for sample in each.samples for value in sample.signals or ()]
    if not np.isfinite(values).all():
        raise CalibrationError("a feature is not a finite number: the data are damaged, the heuristic stays")


def _partitions(observations: Sequence[Observation], spread: float) -> float:
    """Log-likelihood of how wrong answers fell together (Ewens' sampling formula)."""
    total = 0.0
    for each in observations:
        blocks = Counter(sample.key for sample in each.samples if not sample.solved and sample.key is not None)
        wrong = blocks.total()
        total += each.weight * (len(blocks) * log(spread) + lgamma(spread) - lgamma(spread + wrong))
    return total


def _signals(observations: Sequence[Observation], chances: Floats) -> Linear:
    """What a sample's own signals add to the log-odds of its prompt."""
    return _shown(observations, chances, len(SIGNALS), lambda sample: (sample.signals, 0.0))


def _steps(observations: Sequence[Observation], chances: Floats, signals: Linear) -> dict[str, Linear]:
    """What the steps that each process check found add to the log-odds of a sample, beyond its signals."""

    def shown(kind: str, sample: SampleSeen) -> tuple[tuple[float, ...] | None, float]:
        return dict(sample.steps).get(kind), 0.0 if sample.signals is None else signals.of(sample.signals)

    kinds = sorted({kind for each in observations for sample in each.samples for kind, _ in sample.steps})
    return {kind: _shown(observations, chances, len(STEPS), partial(shown, kind)) for kind in kinds}


def _shown(
    observations: Sequence[Observation],
    chances: Floats,
    size: int,
    shown: Callable[[SampleSeen], tuple[tuple[float, ...] | None, float]],
) -> Linear:
    """The weights of `size` values that samples with an answer show, beside the log-odds that are known without them.

    Samples of which `shown` has no values say nothing, neither here nor in serving.
    """
    rows, solved, offsets, weights = [], [], [], []
    for each, chance in zip(observations, chances, strict=True):
        seen = [(shown(sample), sample.solved) for sample in each.samples if sample.key is not None]
        told = [(found, known, right) for (found, known), right in seen if found is not None]
        for found, known, right in told:
            rows.append(found)
            solved.append(float(right))
            offsets.append(log(chance / (1 - chance)) + known)
            weights.append(1.0 / (1 + (len(told) - 1) * _OVERDISPERSION))
    if not rows:
        return Linear((0.0,) * size, (1.0,) * size, (0.0,) * size)
    values = np.array(rows)
    centres, widths = values.mean(axis=0), values.std(axis=0)
    widths[widths < 1e-9] = 1.0
    columns = np.column_stack([np.ones(len(values)), (values - centres) / widths])
    penalties = np.array([1e-3] + [_SIGNAL_PENALTY] * size)
    fitted = logistic(columns, np.array(solved), np.array(weights), penalties, np.array(offsets))
    return Linear(tuple(map(float, centres)), tuple(map(float, widths)), tuple(map(float, fitted[1:])))


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


def _tokens(observations: Sequence[Observation], design: Design) -> Lengths:
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
    """How well held-out chances agree with the samples that no outcome of another selected."""
    sizes = [len(each.unselected) for each in observations]
    solved = [sum(sample.solved for sample in each.unselected) for each in observations]
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
