"""Rows of the policies before the champion: `cispo` may take them, as long as they still say enough of the champion."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from training.drift import effective_share
from training.groups import Group
from training.identity import logprob_gaps
from training.rows import Row

MAX_LAG = 2
MIN_ESS = 0.5


@dataclass(frozen=True, slots=True)
class Staleness:
    """How much the rows of an older policy are worth to the one at the start of the run."""

    policy: str
    rows: int
    ess: float  # effective sample size of the importance weights, as a share of the tokens

    @property
    def usable(self) -> bool:
        """Whether the rows may train."""
        return self.ess >= MIN_ESS


@torch.no_grad()
def check_staleness(policy: Any, groups: Sequence[Group], older: Collection[str]) -> list[Staleness]:
    """Recompute all rows of the `older` policies with `policy`, the one at the start.

    A low effective sample size predicts that an off-policy run collapses (VCPO, arXiv 2602.17616).
    """
    by_policy: dict[str, list[Row]] = defaultdict(list)
    for group in groups:
        if group.policy in older:
            by_policy[group.policy] += group.rows
    policy.eval()
    found = []
    for name, rows in sorted(by_policy.items()):
        gaps = torch.cat([logprob_gaps(policy, row) for row in rows])
        found.append(Staleness(name, len(rows), effective_share(gaps)))
    return found
