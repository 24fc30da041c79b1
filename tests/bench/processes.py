"""CPU time and memory of a process and all its descendants, from /proc."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU in seconds, user and system; resident memory in bytes, pages that processes share counted in each."""

    cpu_s: float
    rss: int


def own(pid: int) -> Usage:
    """One process alone (proc(5): fields 14, 15 and 24 of stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return Usage((int(fields[11]) + int(fields[12])) / _TICKS, int(fields[21]) * _PAGE)


def tree(pid: int) -> Usage:
    """A process with its children, theirs, and so on."""
    parts = [own(each) for each in _descendants(pid)]
    return Usage(sum(part.cpu_s for part in parts), sum(part.rss for part in parts))


def _descendants(pid: int) -> list[int]:
    pids = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            pids += _descendants(int(child))
    return pids
