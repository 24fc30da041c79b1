"""From runs to figures with intervals: the bootstrap over prompts, the same resamples for every policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from router.simulation.replay import Run
from router.stats import CONFIDENCE, RESAMPLES, Estimate

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens."""

    prompt: float
    completion: float
    larger: Price | None = None  # of a larger model

    def of(self, run: Run) -> float:
        """Dollars for a run, each model's tokens at its own price."""
        larger = self.larger or self
        own = self.tokens(run.prompt_tokens - run.larger_prompt, run.completion_tokens - run.larger_completion)
        return own + larger.tokens(run.larger_prompt, run.larger_completion)

    def tokens(self, prompt: float, completion: float) -> float:
        """Dollars for tokens."""
        return (prompt * self.prompt + completion * self.completion) / 1e6


@dataclass(frozen=True, slots=True)
class PolicySummary:
    """One policy on one bank. `headroom` is the share of what lies between one sample and the oracle."""

    name: str
    solve_rate: Estimate
    samples: Estimate
    waves: Estimate
    completion_tokens: Estimate
    tokens_per_solved: Estimate
    cost_per_solved: Estimate | None
    headroom: Estimate


@dataclass(frozen=True, slots=True)
class Comparison:
    """A policy against a reference on the same draws, over the same prompts."""

    name: str
    reference: str
    solve_difference: Estimate
    token_ratio: Estimate
    wave_ratio: Estimate


@dataclass(frozen=True, slots=True)
class Columns:
    """The runs of one policy, a row for each prompt."""

    solved: Floats
    samples: Floats
    waves: Floats
    tokens: Floats
    cost: Floats | None

    @classmethod
    def of(cls, runs: Sequence[Run], price: Price | None) -> Columns:
        """The columns of these runs."""
        return cls(
            np.array([run.solved for run in runs]),
            np.array([run.samples for run in runs]),
            np.array([run.waves for run in runs]),
            np.array([run.completion_tokens for run in runs]),
            np.array([price.of(run) for run in runs]) if price else None,
        )

    def where(self, picked: Sequence[bool], other: Columns) -> Columns:
        """The prompts of `picked` from `other`, the rest from here."""
        cost = None if self.cost is None or other.cost is None else np.where(picked, other.cost, self.cost)
        return Columns(
            np.where(picked, other.solved, self.solved),
            np.where(picked, other.samples, self.samples),
            np.where(picked, other.waves, self.waves),
            np.where(picked, other.tokens, self.tokens),
            cost,
        )


class Bootstrap:
    """How often each prompt is in each of `RESAMPLES` resamples; the first row is the bank itself."""

    def __init__(self, prompts: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        drawn = rng.multinomial(prompts, [1.0 / prompts] * prompts, size=RESAMPLES)
        self._weights = np.vstack([np.ones(prompts), drawn]) / prompts
        self._prompts = prompts

    def means(self, values: Floats) -> Floats:
        """The mean of the bank and of every resample."""
        return np.asarray(self._weights @ values)

    def estimate(self, statistics: Floats) -> Estimate:
        """The bank's statistic with its percentile interval; a statistic that is not finite is unknown."""
        tail = (1 - CONFIDENCE) / 2
        low, high = np.quantile(statistics[1:], [tail, 1 - tail], method="inverted_cdf")
        return Estimate(*(_known(statistics[0]), self._prompts), _known(low), _known(high))


def summarise(name: str, policy: Columns, bounds: tuple[Columns, Columns], bootstrap: Bootstrap) -> PolicySummary:
    """The figures of a policy; `bounds` are one sample and the oracle."""
    solved = bootstrap.means(policy.solved)
    single, oracle = (bootstrap.means(bound.solved) for bound in bounds)
    return PolicySummary(
        name=name,
        solve_rate=bootstrap.estimate(solved),
        samples=bootstrap.estimate(bootstrap.means(policy.samples)),
        waves=bootstrap.estimate(bootstrap.means(policy.waves)),
        completion_tokens=bootstrap.estimate(bootstrap.means(policy.tokens)),
        tokens_per_solved=bootstrap.estimate(_ratio(bootstrap.means(policy.tokens), solved)),
        cost_per_solved=None
        if policy.cost is None
        else bootstrap.estimate(_ratio(bootstrap.means(policy.cost), solved)),
        headroom=bootstrap.estimate(_ratio(solved - single, oracle - single)),
    )


def compare(names: tuple[str, str], policy: Columns, reference: Columns, bootstrap: Bootstrap) -> Comparison:
    """The policy against the reference, prompt by prompt."""
    return Comparison(
        *names,
        solve_difference=bootstrap.estimate(bootstrap.means(policy.solved - reference.solved)),
        token_ratio=bootstrap.estimate(_ratio(bootstrap.means(policy.tokens), bootstrap.means(reference.tokens))),
        wave_ratio=bootstrap.estimate(_ratio(bootstrap.means(policy.waves), bootstrap.means(reference.waves))),
    )


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.full_like(above, np.inf), where=below != 0)


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
