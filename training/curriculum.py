"""Which groups train where more may than are wanted: the newest, or a mix by measured difficulty."""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heappush, heappushpop
from itertools import chain
from typing import TypeAlias

from training.groups import Difficulty, Group

# Shares of the groups at the ends. The signal peaks at a pass rate near one half (arXiv 2504.03380); some of both ends
# keep what is solved from being forgotten and what is not from being starved (arXiv 2601.02648).
ENDS = {Difficulty.HARD: 0.15, Difficulty.EASY: 0.15}

_Entry: TypeAlias = tuple[float, str, Group]


@dataclass(slots=True)
class Choice:
    """The newest `most` of the groups offered; with `curriculum` 15 % of them hard and 15 % easy, as far as there are.

    Groups of unmeasured difficulty count as those in the middle. What a share cannot fill goes to the newest of the
    others. Holds at most `most` groups in memory, with `curriculum` three times as many.
    """

    most: int
    curriculum: bool = False
    offered: int = 0
    _newest: dict[Difficulty, list[_Entry]] = field(default_factory=dict)  # heaps

    def offer(self, group: Group) -> None:
        """Take note of a group; the order does not matter."""
        self.offered += 1
        at_an_end = self.curriculum and group.difficulty in ENDS
        pool = self._newest.setdefault(group.difficulty if at_an_end else Difficulty.MIDDLE, [])
        entry = (group.created_at, group.group_id, group)
        if len(pool) < self.most:
            heappush(pool, entry)
        else:
            heappushpop(pool, entry)

    def taken(self) -> list[Group]:
        """The groups that train, in the order they were made."""
        pools = {name: sorted(pool, key=_age, reverse=True) for name, pool in self._newest.items()}
        kept: list[_Entry] = []
        for end, share in ENDS.items():
            pool = pools.get(end, [])
            quota = int(share * self.most)
            kept += pool[:quota]
            del pool[:quota]
        middle = pools.get(Difficulty.MIDDLE, [])
        quota = self.most - len(kept)
        kept += middle[:quota]
        rest = sorted(chain(middle[quota:], *(pools.get(end, []) for end in ENDS)), key=_age, reverse=True)
        kept += rest[: self.most - len(kept)]
        return [group for _, _, group in sorted(kept, key=_age)]


def _age(entry: _Entry) -> tuple[float, str]:
    return entry[:2]
