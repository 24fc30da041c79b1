"""Files that survive a crash: replace by rename, fsync of file and directory, locks between processes."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

_BLOCK = 4096


def fsync_dir(directory: Path) -> None:
    """Make the renames, creations and removals in `directory` durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A new file that takes the place of `path` when the block ends, whole and on disk; on an error, none does."""
    fd, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(fd, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_dir(path.parent)


def drop_leftovers(directory: Path, names: str) -> None:
    """Remove what `replacing`, cut off by a crash, left beside files of these `names` (a glob pattern)."""
    for path in directory.glob(f".{names}.*.tmp"):
        path.unlink(missing_ok=True)


def write_durably(path: Path, data: bytes) -> None:
    """Replace the content of `path`: a reader, and a crash, see the old content or the new one."""
    with replacing(path) as file:
        file.write(data)


def append_durably(path: Path, data: bytes) -> None:
    """Append `data` to `path` and wait until it is on disk; a new file is readable for its owner alone."""
    created = not path.exists()
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(fd, "ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    if created:
        fsync_dir(path.parent)


def append_line_durably(path: Path, line: bytes) -> None:
    """Append a whole line and wait until it is on disk. What a crash left of a last line without its end is dropped.

    The caller holds a lock against other writers.
    """
    with suppress(FileNotFoundError), path.open("r+b") as file:
        file.truncate(_end_of_lines(file))
    append_durably(path, line + b"\n")


def _end_of_lines(file: IO[bytes]) -> int:
    """The offset behind the last newline."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - _BLOCK)
        file.seek(start)
        if (found := file.read(end - start).rfind(b"\n")) >= 0:
            return start + found + 1
        end = start
    return 0


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path` against every other process and thread; waits for it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def try_lock(path: Path) -> int | None:
    """Take the lock file `path` and return its descriptor (close it to let go), or None while another holds it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    except OSError:
        os.close(fd)
        raise
    return fd
