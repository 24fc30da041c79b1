"""Weighted rows to optimizer steps, each cut into micro-batches that fit the memory."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from router.errors import TrainingError
from router.settings import TrainingSection
from training.advantage import WeightedRow

MicroBatch: TypeAlias = tuple[WeightedRow, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """The micro-batches of one optimizer step."""

    micro_batches: tuple[MicroBatch, ...]

    @property
    def actions(self) -> int:
        """Tokens that the loss of the whole step is the mean over."""
        return sum(each.row.actions for batch in self.micro_batches for each in batch)


def plan_steps(groups: Sequence[Sequence[WeightedRow]], config: TrainingSection, processes: int = 1) -> list[Step]:
    """All optimizer steps of the run, in order; every step has the same number of micro-batches for each process.

    Groups are shuffled by the seed for each epoch; steps differ by one row at most and hold at least
    `completions_per_step` rows wherever there are as many. Raises `TrainingError` when there are fewer than processes.
    """
    rng = random.Random(config.seed)
    chunks: list[list[WeightedRow]] = []
    for _ in range(config.epochs):
        order = list(groups)
        rng.shuffle(order)
        rows = [each for group in order for each in group]
        chunks += _evenly(rows, max(1, len(rows) // config.completions_per_step))
    cuts = [_within(chunk, config.micro_batch_tokens) for chunk in chunks if chunk]
    fewest = min((len(chunk) for chunk in chunks if chunk), default=0)
    share = min(-(-max(map(len, cuts), default=0) // processes), fewest // processes)
    if cuts and not share:
        raise TrainingError(f"{fewest} completions are too few for {processes} processes: start fewer")
    number = share * processes
    return [Step(tuple(_cut_to(cut, number))) for cut in cuts]


def _evenly(rows: Sequence[WeightedRow], parts: int) -> list[list[WeightedRow]]:
    edges = [len(rows) * part // parts for part in range(parts + 1)]
    return [list(rows[start:end]) for start, end in pairwise(edges)]


def _within(rows: Sequence[WeightedRow], budget: int) -> list[MicroBatch]:
    """Longest rows first, as many together as their padded size allows; a row over the budget is alone."""
    batches: list[list[WeightedRow]] = []
    for each in sorted(rows, key=lambda one: one.row.tokens, reverse=True):
        if batches and _padded_tokens([*batches[-1], each]) <= budget:
            batches[-1].append(each)
        else:
            batches.append([each])
    return [tuple(batch) for batch in batches]


def _padded_tokens(batch: Sequence[WeightedRow]) -> int:
    prompt = max(len(each.row.prompt_ids) for each in batch)
    completion = max(len(each.row.completion_ids) for each in batch)
    return len(batch) * (prompt + completion)


def _cut_to(batches: Sequence[MicroBatch], number: int) -> list[MicroBatch]:
    """The same rows in exactly `number` micro-batches, at most as many as there are rows."""
    cut = list(batches)
    while len(cut) > number:
        last = cut.pop()
        cut[-1] += last
    while len(cut) < number:
        largest = max(range(len(cut)), key=lambda index: len(cut[index]))
        whole = cut[largest]
        cut[largest : largest + 1] = [whole[: len(whole) // 2], whole[len(whole) // 2 :]]
    return cut
