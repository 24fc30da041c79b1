"""The value of a solved task at which the plan is expected to reach a solve rate. Plain arithmetic on beliefs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from router.calibration.model import Target
from router.stopping import PassRate

_ABOVE = 1.0 + 1e-9  # a sample is drawn where its value exceeds its price


@dataclass(frozen=True, slots=True)
class Prospect:
    """One prompt of the traffic: the belief about it, and the price of its samples."""

    belief: PassRate
    price: float  # of one sample, in completion tokens


def reaching(solve_rate: float, prospects: Sequence[Prospect], most: int) -> Target:
    """The smallest value of a solved task whose plan is expected to solve this share of prompts that have an oracle.

    A prompt's next sample is drawn where its chance times the value exceeds its price (`router.stopping.worthwhile`),
    so each sample has the value from which it is drawn and what it adds; they are taken cheapest first, at most `most`
    of a prompt. Raises ValueError without a prospect.
    """
    if not prospects:
        raise ValueError("a target needs prompts")
    reached, further, share = 0.0, [], 1.0 / len(prospects)
    for each in prospects:
        alive = each.belief.survival(most)
        reached += share * each.belief.mean
        for drawn in range(1, most):
            chance = each.belief.chance_after(drawn)
            further.append((each.price / chance, share * alive[drawn] * chance))
    value = 0.0
    for threshold, gain in sorted(further):
        if reached >= solve_rate:
            break
        value, reached = threshold * _ABOVE, reached + gain
    return Target(solve_rate, value if reached >= solve_rate else None, reached)
