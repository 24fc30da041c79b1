"""Rewards to advantages: how much better a completion was than what could be expected of its prompt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from training.groups import Group
from training.rows import Row

_UNKNOWN = 0.5  # expected reward while nothing else is known; rewards are in [0, 1]


@dataclass(frozen=True, slots=True)
class WeightedRow:
    """A row and its advantage, the same for each of its tokens."""

    row: Row
    advantage: float


def leave_one_out(rewards: Sequence[float]) -> list[float]:
    """`R_i` minus the mean of the others: unbiased when the group's size was fixed (Kool, van Hoof and Welling 2019).

    Raises `ValueError` for fewer than two rewards.
    """
    n = len(rewards)
    if n < 2:
        raise ValueError(f"leave-one-out needs at least two rewards, got {n}")
    total = math.fsum(rewards)
    return [(n * reward - total) / (n - 1) for reward in rewards]


def predictable(rewards: Sequence[float], expected: float) -> list[float]:
    """`R_i` minus a baseline fixed before sample i was drawn: the mean of `expected` and the rewards before it.

    Where a success ends a group, later samples exist because earlier ones failed, and a baseline that looks at them is
    biased. With this one the sum over the drawn samples is unbiased whatever the stop rule (Wald's identity), as long
    as groups of equal rewards and of one sample stay in.
    """
    return [reward - (expected + math.fsum(rewards[:before])) / (before + 1) for before, reward in enumerate(rewards)]


def weigh(groups: Sequence[Group], rewards: Sequence[Sequence[float]]) -> list[list[WeightedRow]]:
    """The rows of each group that the loss may see, with their advantages from the rewards of all its rows.

    A truncated row counts for its group's baseline and is then left out. The `expected` reward of an early-stopped
    group is the mean first reward of the other groups, which is independent of its own.
    """
    first = [earned[0] for earned in rewards]
    total, others = math.fsum(first), len(groups) - 1
    weighted = []
    for group, earned in zip(groups, rewards, strict=True):
        if group.fixed_size and len(earned) > 1:
            advantages = leave_one_out(earned)
        else:
            advantages = predictable(earned, (total - earned[0]) / others if others else _UNKNOWN)
        pairs = zip(group.rows, advantages, strict=True)
        weighted.append([WeightedRow(row, advantage) for row, advantage in pairs if not row.truncated])
    return weighted
