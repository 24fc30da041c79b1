"""What a router may rank prompts by: chance, length, the heuristic, the nearest neighbours, the calibration."""

from __future__ import annotations

import random
from collections.abc import Sequence
from math import sqrt

from router.difficulty import difficulty
from router.simulation.observe import features_of
from router.simulation.problem import Problem

NEIGHBOURS = 8


def by_chance(problems: Sequence[Problem], seed: int) -> list[float]:
    """Difficulty drawn at random."""
    rng = random.Random(seed)
    return [rng.random() for _ in problems]


def by_length(problems: Sequence[Problem]) -> list[float]:
    """Characters of the last user message."""
    return [float(len(problem.prompt.last_user_text)) for problem in problems]


def by_heuristic(problems: Sequence[Problem]) -> list[float]:
    """The heuristic that serves without a calibration."""
    return [difficulty(problem.prompt) for problem in problems]


def by_neighbours(problems: Sequence[Problem], folds: Sequence[int]) -> list[float]:
    """Share of failed samples among the nearest problems of other folds, by the cosine of their hashed words."""
    buckets = [frozenset(features_of(problem).hashed) for problem in problems]
    failed = [1.0 - sum(problem.solved) / len(problem.solved) for problem in problems]

    def near(one: int, other: int) -> float:
        return len(buckets[one] & buckets[other]) / sqrt(len(buckets[one]) * len(buckets[other]))

    scores = []
    for each in range(len(problems)):
        others = [other for other in range(len(problems)) if folds[other] != folds[each]]
        closest = sorted(others, key=lambda other: -near(each, other))[:NEIGHBOURS]
        scores.append(sum(failed[other] for other in closest) / len(closest))
    return scores
