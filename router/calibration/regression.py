"""The regressions behind a calibration, ridge-penalised, by Newton's method. Needs numpy, which serving never loads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from router.calibration.features import BUCKETS, PROMPT_FEATURES
from router.calibration.model import MAX_HISTORY
from router.calibration.observe import Observation

Floats = npt.NDArray[np.float64]

_STEPS, _CLOSE = 25, 1e-4  # of Newton's method: at most so many, until no logit moves further


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What the samples of each prompt came to, as the weights of the factors of a beta-binomial likelihood.

    Arrays of shape (prompts, samples): entry k of `wins` is the weight of the factor that the (k+1)-th solved sample
    brings, of `losses` that of the (k+1)-th that failed, of `draws` that of the (k+1)-th sample; 0 where there is none.
    The first sample is drawn on every route and counts once; later ones count with the inverse propensity of theirs.
    What a group is stopped by, its own outcomes, does not change its likelihood.
    """

    wins: Floats
    losses: Floats
    draws: Floats

    @classmethod
    def of(cls, observations: Sequence[Observation]) -> Outcomes:
        """The outcomes of prompts, each with a sample at least."""
        shape = len(observations), max(len(each.samples) for each in observations)
        wins, losses, draws = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        for row, each in enumerate(observations):
            wins[row, : each.solved] = losses[row, : len(each.samples) - each.solved] = each.weight
            draws[row, : len(each.samples)] = each.weight
            (wins if each.samples[0].solved else losses)[row, 0] = draws[row, 0] = 1.0
        return cls(wins, losses, draws)

    def __getitem__(self, rows: npt.NDArray[np.bool_]) -> Outcomes:
        return Outcomes(self.wins[rows], self.losses[rows], self.draws[rows])

    def likelihood(self, chances: Floats, strength: float) -> float:
        """Logarithm of it, when each prompt's pass rate is Beta of this strength around its chance."""
        drawn = np.arange(self.draws.shape[1])
        solved, failed = strength * chances[:, None] + drawn, strength * (1 - chances[:, None]) + drawn
        whole = self.draws @ np.log(strength + drawn)
        return float(np.sum(self.wins * np.log(solved) + self.losses * np.log(failed)) - np.sum(whole))

    def step(self, logits: Floats, strength: float) -> tuple[Floats, Floats]:
        """Score of each prompt's logit, and about how curved the likelihood is there: the Fisher information.

        Samples of one prompt are correlated by 1/(1 + strength), so each further one tells less.
        """
        drawn = np.arange(self.draws.shape[1])
        chances = sigmoid(logits)[:, None]
        score = self.wins * strength / (strength * chances + drawn)
        score -= self.losses * strength / (strength * (1 - chances) + drawn)
        variance = np.maximum(chances * (1 - chances), 1e-6)
        known = np.sum(self.draws, axis=1) / (1 + (np.count_nonzero(self.draws, axis=1) - 1) / (1 + strength))
        return np.asarray((variance * score).sum(axis=1)), np.asarray(variance[:, 0] * known)


@dataclass(frozen=True, slots=True)
class Design:
    """A row for each prompt: an intercept, the dense and the hashed features, and the histories it shares.

    A history is a column of ones and zeros, so that the ridge shrinks a tenant's part to its profile's, and a
    profile's to the whole.
    """

    rows: Floats
    outcomes: Outcomes
    centres: tuple[float, ...]
    widths: tuple[float, ...]
    histories: tuple[str, ...]

    @classmethod
    def of(cls, observations: Sequence[Observation]) -> Design:
        """The design of prompts with their features."""
        dense = np.array([each.features.dense for each in observations])
        centres, widths = dense.mean(axis=0), dense.std(axis=0)
        widths[widths < 1e-9] = 1.0
        histories = _histories(observations)
        columns = {name: 1 + dense.shape[1] + BUCKETS + number for number, name in enumerate(histories)}
        rows = np.zeros((len(observations), 1 + dense.shape[1] + BUCKETS + len(histories)))
        rows[:, 0] = 1.0
        rows[:, 1 : 1 + dense.shape[1]] = (dense - centres) / widths
        for row, each in zip(rows, observations, strict=True):
            row[[1 + dense.shape[1] + bucket for bucket in each.features.hashed]] = each.features.scale
            row[[columns[name] for name in each.features.history if name in columns]] = 1.0
        named = tuple(map(float, centres)), tuple(map(float, widths))
        return cls(rows, Outcomes.of(observations), *named, histories)

    def weights(self, penalty: tuple[float, float], strength: float) -> Floats:
        """The weight of every column, fitted by the beta-binomial likelihood.

        `penalty` is that of the dense features and the histories, and that of the hashed ones.
        """
        dense, hashed = penalty
        penalties = [1e-3, *[dense] * len(PROMPT_FEATURES), *[hashed] * BUCKETS, *[dense] * len(self.histories)]
        used = np.asarray(self.rows.any(axis=0))
        weights = np.zeros(len(used))
        weights[used] = _newton(
            self.rows[:, used], np.array(penalties)[used], lambda logits: self.outcomes.step(logits, strength)
        )
        return weights

    def held_out(self, folds: npt.NDArray[np.int64], penalty: tuple[float, float], strength: float) -> Floats:
        """The chance of each prompt when it is fitted on the other folds."""
        chances = np.empty(len(self.rows))
        for fold in range(int(folds.max()) + 1):
            rest, out = folds != fold, folds == fold
            part = Design(self.rows[rest], self.outcomes[rest], self.centres, self.widths, self.histories)
            chances[out] = sigmoid(self.rows[out] @ part.weights(penalty, strength))
        return np.clip(chances, 0.005, 0.995)


def logistic(rows: Floats, solved: Floats, weights: Floats, penalties: Floats, offsets: Floats) -> Floats:
    """Ridge logistic regression of single samples, each with an offset of its logit."""

    def step(logits: Floats) -> tuple[Floats, Floats]:
        chances = sigmoid(logits + offsets)
        return weights * (solved - chances), weights * np.maximum(chances * (1 - chances), 1e-6)

    return _newton(rows, penalties, step)


def sigmoid(logits: Floats) -> Floats:
    """The chance of a logit."""
    return 1.0 / (1.0 + np.exp(-np.clip(logits, -30, 30)))


def _newton(rows: Floats, penalties: Floats, step: Callable[[Floats], tuple[Floats, Floats]]) -> Floats:
    """The penalised maximum of a likelihood whose score and curvature `step` gives for the rows' logits.

    Solved for the features, or for the rows where they are fewer: the two are the same step (Woodbury's identity).
    """
    dual = len(rows) < rows.shape[1]
    scaled = rows / penalties
    kernel = scaled @ rows.T if dual else np.empty(0)
    found: npt.NDArray[Any] = np.zeros(rows.shape[1])
    logits = rows @ found
    for _ in range(_STEPS):
        score, curvature = step(logits)
        target = logits + score / curvature
        if dual:
            found = np.asarray(scaled.T @ np.linalg.solve(kernel + np.diag(1 / curvature), target))
        else:
            found = np.linalg.solve(
                (rows * curvature[:, None]).T @ rows + np.diag(penalties), rows.T @ (curvature * target)
            )
        before, logits = logits, rows @ found
        if np.max(np.abs(logits - before)) < _CLOSE:
            break
    return found


def _histories(observations: Sequence[Observation]) -> tuple[str, ...]:
    """The profiles, and the tenants in them, that most prompts share, at most `MAX_HISTORY` in all.

    One that all prompts of the level above share tells nothing apart and is left out.
    """
    seen = Counter(each.features.history for each in observations)
    profiles: Counter[str] = Counter()
    for (profile, _), count in seen.items():
        profiles[profile] += count
    counts = {profile: count for profile, count in profiles.items() if count < len(observations)}
    counts |= {tenant: count for (profile, tenant), count in seen.items() if count < profiles[profile]}
    return tuple(sorted(counts, key=lambda name: (-counts[name], name))[:MAX_HISTORY])
