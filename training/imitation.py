"""Mode `rft`: verified completions as examples (rejection-sampling fine-tuning, arXiv 2308.01825)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

from training.advantage import WeightedRow
from training.dataset import Counts
from training.groups import Group

MAX_DISTINCT = 4  # completions of a prompt: more would let the prompts that are easy to sample outweigh the others


def distinct(groups: Sequence[Group], counts: Counts) -> list[Group]:
    """The first `MAX_DISTINCT` different completions of every prompt, oldest first; drops are counted."""
    taken: dict[tuple[int, ...], set[tuple[int, ...]]] = defaultdict(set)
    kept = []
    for group in groups:
        rows, dropped = [], Counter[str]()
        for row in group.rows:
            known = taken[row.prompt_ids]
            if row.completion_ids in known:
                dropped["repeated"] += 1
            elif len(known) == MAX_DISTINCT:
                dropped["over_cap"] += 1
            else:
                known.add(row.completion_ids)
                rows.append(row)
        counts.dropped_rows += dropped
        if rows:
            kept.append(replace(group, rows=tuple(rows)))
        else:
            counts.dropped_groups["no_new_rows"] += 1
    return kept


def as_examples(groups: Sequence[Group]) -> list[list[WeightedRow]]:
    """Every row at weight 1, whatever its siblings earned."""
    return [[WeightedRow(row, 1.0) for row in group.rows] for group in groups]
