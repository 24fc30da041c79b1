"""How well chances agree with what happened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from router.stats import Rate, wilson

BINS = 10


@dataclass(frozen=True, slots=True)
class Bin:
    """Predictions of one range: their mean, and what happened."""

    predicted: float
    observed: Rate


def reliability(chances: Sequence[float], happened: Sequence[bool], bins: int = BINS) -> tuple[Bin, ...]:
    """Bins of equal width over [0, 1] that hold a prediction (Guo et al. 2017, arXiv 1706.04599, section 2)."""
    members: list[list[int]] = [[] for _ in range(bins)]
    for number, chance in enumerate(chances):
        members[min(int(chance * bins), bins - 1)].append(number)
    return tuple(
        Bin(
            sum(chances[number] for number in each) / len(each),
            wilson(sum(happened[number] for number in each), len(each)),
        )
        for each in members
        if each
    )


def calibration_error(bins: Sequence[Bin]) -> float:
    """Expected calibration error: mean distance of prediction and outcome, by the number in each bin."""
    total = sum(each.observed.n for each in bins)
    return sum(each.observed.n * abs(each.predicted - (each.observed.value or 0.0)) for each in bins) / total


def brier(chances: Sequence[float], happened: Sequence[bool]) -> float:
    """Mean squared distance of prediction and outcome."""
    return sum((chance - truth) ** 2 for chance, truth in zip(chances, happened, strict=True)) / len(chances)


def auc(chances: Sequence[float], happened: Sequence[bool]) -> float:
    """Chance that a sample that solved was predicted higher than one that did not; ties count half."""
    ranked = sorted(zip(chances, happened, strict=True), key=lambda pair: pair[0])
    below, won = 0, 0.0
    at = 0
    while at < len(ranked):
        end = at
        while end < len(ranked) and ranked[end][0] == ranked[at][0]:
            end += 1
        wrong = sum(1 for _, truth in ranked[at:end] if not truth)
        won += (end - at - wrong) * (below + wrong / 2)
        below, at = below + wrong, end
    solved = len(ranked) - below
    return won / (solved * below) if solved and below else 0.5
