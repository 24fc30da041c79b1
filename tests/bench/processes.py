"""CPU time and memory of a process and all its descendants, from /proc and its CPU clock."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU in seconds, user and system; resident memory in bytes, pages that processes share counted in each."""

    cpu_s: float
    rss: int


def own(pid: int) -> Usage:
    """One process alone; resident memory is field 24 of proc(5)'s stat."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return Usage(time.clock_gettime(_cpu_clock(pid)), int(fields[21]) * _PAGE)


def tree(pid: int) -> Usage:
    """A process with its children, theirs, and so on."""
    parts = [own(each) for each in descendants(pid)]
    return Usage(sum(part.cpu_s for part in parts), sum(part.rss for part in parts))


def _cpu_clock(pid: int) -> int:
    """The CPU clock of another process, as clock_getcpuclockid(3) names it: stat counts in hundredths of a second."""
    return (~pid << 3) | 2


def descendants(pid: int) -> list[int]:
    """This process, its children, theirs, and so on; those that end meanwhile are passed by."""
    pids = [pid]
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                pids += descendants(int(child))
    return pids
