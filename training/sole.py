"""One trainer at a time on a state directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from router.fs import try_lock


@contextmanager
def sole_trainer(state_dir: Path) -> Iterator[bool]:
    """Whether no other trainer works on this state directory; none can begin within the block."""
    folder = state_dir / "training"
    folder.mkdir(parents=True, exist_ok=True)
    lock = try_lock(folder / "lock")
    try:
        yield lock is not None
    finally:
        if lock is not None:
            os.close(lock)
