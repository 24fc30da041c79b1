"""A run of several processes, as `accelerate launch` starts them: the first leads, the others follow.

The leader alone reads the log, decides what trains, and registers the policy. What the followers need reaches them in
one message, so that no process can see another log than its siblings.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.batches import Step


@dataclass(frozen=True, slots=True)
class Work:
    """What every process of a run trains on."""

    parent: Path | None  # folder of the adapter to go on from
    steps: Sequence[Step]


@dataclass(slots=True)
class Crew:
    """The processes of this run, seen from one of them; usually there is one."""

    rank: int = field(default_factory=lambda: int(os.environ.get("RANK", "0")))
    size: int = field(default_factory=lambda: int(os.environ.get("WORLD_SIZE", "1")))
    told: bool = False

    @property
    def follows(self) -> bool:
        """Whether another process leads."""
        return self.rank > 0

    @contextmanager
    def leading(self) -> Iterator[None]:
        """On the way out, followers that still wait are told that there is nothing to do."""
        try:
            yield
        finally:
            if not self.told:
                self.share(None)

    def share(self, work: Work | None) -> Work | None:
        """Send `work` to the followers, who get it from the same call."""
        self.told = True
        if self.size == 1:
            return work
        from accelerate import PartialState  # noqa: PLC0415  # torch takes seconds
        from accelerate.utils import broadcast_object_list, parse_flag_from_env  # noqa: PLC0415

        PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))  # joins the others
        shared: list[Work | None] = [work]
        broadcast_object_list(shared, from_process=0)
        return shared[0]
