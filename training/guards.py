"""What a better candidate must not be worse in: non-inferiority guards, each with its stated margin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from router.stats import Estimate, bootstrap_ratio, paired_difference

LENGTH_MARGIN = 1.25  # answers at most a quarter longer
SHARE_MARGIN = 0.05  # at most five points more truncated answers, or errors, or fewer solved of a guard set
CONFIDENCE = 0.90  # two-sided, so that the upper bound alone is a one-sided bound of 95 %


@dataclass(frozen=True, slots=True)
class Guard:
    """`estimate` compares candidate and champion; its upper bound must not pass `margin`."""

    name: str
    estimate: Estimate
    margin: float

    @property
    def holds(self) -> bool:
        """Whether the candidate is shown to be non-inferior; without data nothing is shown."""
        return self.estimate.high is not None and self.estimate.high <= self.margin

    def text(self) -> str:
        """The finding in a few words."""
        high = "unknown" if self.estimate.high is None else f"up to {self.estimate.high:.3g}"
        return f"{self.name} {'holds' if self.holds else 'fails'} ({high}, margin {self.margin:g})"


def length_guard(lengths: Sequence[tuple[float, float]], seed: int) -> Guard:
    """Mean completion tokens of an answer, candidate over champion, from one pair of lengths a question."""
    candidate, champion = [pair[0] for pair in lengths], [pair[1] for pair in lengths]
    ratio = bootstrap_ratio(candidate, champion, CONFIDENCE, seed)
    return Guard("tokens per answer (ratio)", ratio, LENGTH_MARGIN)


def truncation_guard(truncated: Sequence[tuple[bool, bool]]) -> Guard:
    """Share of answers cut off at their token limit, candidate minus champion."""
    return Guard("truncated share (difference)", paired_difference(truncated, CONFIDENCE), SHARE_MARGIN)


def set_guard(name: str, solved: Sequence[tuple[bool, bool]]) -> Guard:
    """Share of the guard set `name` that is not solved, candidate minus champion; a pair of `solved` a question."""
    lost = [(not candidate, not champion) for candidate, champion in solved]
    return Guard(f"{name}: unsolved share (difference)", paired_difference(lost, CONFIDENCE), SHARE_MARGIN)


def error_guard(errors: Sequence[tuple[bool, bool]]) -> Guard:
    """Share of requests that ended in an error, candidate minus champion."""
    return Guard("error share (difference)", paired_difference(errors, CONFIDENCE), SHARE_MARGIN)
