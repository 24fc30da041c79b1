"""The most memory that this program has held."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable


def peak_rss_reader() -> Callable[[], int]:
    """What tells this program's peak of resident memory, in bytes.

    Linux counts `ru_maxrss` on from the process that forked us, across the exec: under a parent of a gigabyte every
    child would seem to be one. `VmHWM` is of the program alone.
    """
    if sys.platform != "linux":
        return lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    status = os.open("/proc/self/status", os.O_RDONLY)

    def peak() -> int:
        lines = os.pread(status, 4096, 0).splitlines()
        kib = next(line.split()[1] for line in lines if line.startswith(b"VmHWM:"))
        return int(kib) * 1024

    return peak
