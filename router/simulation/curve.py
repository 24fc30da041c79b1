"""Cost against solve rate of a family of policies, and the area below it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from router.simulation.summary import Bootstrap, Columns, Floats
from router.stats import Estimate

_RESAMPLES = 500  # enough for the interval of an area, each of which is a hull of its own


@dataclass(frozen=True, slots=True)
class Curve:
    """A family of policies, from cheap to dear: tokens and solve rate of each member, and the mean solve rate below.

    `area` is the mean of the curve between the cost of one sample and of the full plan: the solve rate of a budget
    drawn evenly between the two. Between neighbours of its concave hull a family is mixed by chance.
    """

    name: str
    tokens: tuple[Estimate, ...]
    solve_rates: tuple[Estimate, ...]
    area: Estimate
    lead: Estimate | None  # of the reference family's area over this one's


def areas(members: Sequence[Columns], ends: tuple[Columns, Columns], bootstrap: Bootstrap) -> Floats:
    """The area of the bank and of every resample; `ends` are one sample and the full plan, which every family has."""
    every = [ends[0], *members, ends[1]]
    tokens = np.array([bootstrap.means(each.tokens)[: 1 + _RESAMPLES] for each in every])
    solved = np.array([bootstrap.means(each.solved)[: 1 + _RESAMPLES] for each in every])
    return np.array([_area(tokens[:, draw], solved[:, draw]) for draw in range(tokens.shape[1])])


def _area(tokens: Floats, solved: Floats) -> float:
    """Mean height of the concave hull between the first and the last point's cost."""
    low, high = tokens[0], tokens[-1]
    hull: list[tuple[float, float]] = []
    for point in sorted(zip(tokens, solved, strict=True)):
        if hull and point[1] <= hull[-1][1]:
            continue
        while len(hull) > 1 and _below(hull[-2], hull[-1], point):
            hull.pop()
        hull.append((float(point[0]), float(point[1])))
    grid = np.linspace(low, high, 65)
    return float(np.mean(np.interp(grid, [x for x, _ in hull], [y for _, y in hull])))


def _below(first: tuple[float, float], middle: tuple[float, float], last: tuple[float, float]) -> bool:
    """Whether `middle` lies on or below the line from `first` to `last`."""
    rise = (last[1] - first[1]) * (middle[0] - first[0])
    return (middle[1] - first[1]) * (last[0] - first[0]) <= rise
