"""The group log as a whole: who writes where, and one stream of its groups whichever file they are in."""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from pathlib import Path
from typing import NamedTuple

from router.errors import RecordError, SegmentCorrupt
from router.fs import drop_leftovers, fsync_dir, try_lock
from router.log.manifest import Manifest, SegmentKey
from router.log.parts import PARQUET, Part, Position, Stored, parts, segment_files, worker_dirs
from router.log.segments import OPEN, SEALED, next_seq_after
from router.log.tombstones import Tombstones, load_tombstones, sealing
from router.log.writer import Recovered, quarantine, recover
from router.record_codec import decode_group
from router.records import GroupHead, GroupRecord

_LOCK = "lock"


class OnCorrupt(StrEnum):
    """What a reader does with a sealed segment that fails its hash."""

    RAISE = "raise"
    SKIP = "skip"
    QUARANTINE = "quarantine"


class Span(NamedTuple):
    """Neighbouring positions of a worker, from `first` to before `end`."""

    worker: str
    first: int
    end: int


@dataclass(slots=True)
class Tally:
    """What a reader met, besides the records it yielded."""

    segments: int = 0  # files: segments, and Parquet files of several
    forgotten: int = 0
    spans: list[Span] = field(default_factory=list)  # what was read to its end, in order
    damage: Counter[str] = field(default_factory=Counter)  # by reason: "segment", "record"
    problems: list[str] = field(default_factory=list)  # one line for each damaged file

    def add_undecodable(self, path: Path, error: RecordError) -> None:
        """Count a record of this file that cannot be decoded; each reason is named once."""
        self.damage["record"] += 1
        if (problem := f"{path}: record(s) that cannot be read: {error}") not in self.problems:
            self.problems.append(problem)


class WorkerDir:
    """A worker's directory, held against every other process until `release`."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    def next_seq(self) -> int:
        """The first sequence number that no record of this worker has."""
        last = max(segment_files(self.path), default=None)
        compacted = Manifest(self.path.parent).next_seq(self.path.name)
        return max(compacted, 0 if last is None else next_seq_after(last))

    def release(self) -> None:
        """Let another process have the directory."""
        os.close(self._lock)


def claim_worker(log_dir: Path) -> WorkerDir:
    """The first worker directory, `w0`, `w1`, ..., that no process holds; created when all are held."""
    for number in count():
        path = log_dir / f"w{number}"
        if not path.is_dir():
            path.mkdir(parents=True, exist_ok=True)
            fsync_dir(log_dir)
        if (lock := try_lock(path / _LOCK)) is not None:
            return WorkerDir(path, lock)
    raise AssertionError("unreachable: count() does not end")


def is_live(worker: Path) -> bool:
    """Whether a process holds this worker's directory."""
    try:
        fd = os.open(worker / _LOCK, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def recover_abandoned(log_dir: Path) -> list[Recovered]:
    """Seal what dead writers left open, in every worker directory that nobody holds."""
    found = []
    for worker in worker_dirs(log_dir):
        if (lock := try_lock(worker / _LOCK)) is None:
            continue
        try:
            drop_leftovers(worker, f"*{OPEN}")
            for path in sorted(worker.glob(f"*{OPEN}")):
                with sealing(log_dir):
                    tombstones = load_tombstones(log_dir)
                    found.append(recover(path, tombstones.covers_payload if tombstones else None))
        finally:
            os.close(lock)
    return found


def segments(log_dir: Path, *suffixes: str) -> list[Path]:
    """The segments of all workers with one of these suffixes that are not compacted, by worker and sequence."""
    return [part.path for part in parts(log_dir, *suffixes) if not part.compacted]


def read_groups(
    log_dir: Path,
    *,
    include_open: bool = False,
    on_corrupt: OnCorrupt = OnCorrupt.RAISE,
    tally: Tally | None = None,
    advance: Callable[[Path], None] = lambda _: None,
) -> Iterator[tuple[Position, GroupRecord]]:
    """The groups of `read_stored`, whole; raises as it does."""
    tally = tally or Tally()
    read = read_stored(log_dir, include_open=include_open, on_corrupt=on_corrupt, tally=tally, advance=advance)
    for stored, _ in read:
        if (record := whole(stored, tally)) is not None:
            yield stored.position, record


def joined(spans: Iterable[Span]) -> list[Span]:
    """The same positions in as few spans as can be, sorted."""
    found: list[Span] = []
    for span in sorted(spans):
        if found and found[-1].worker == span.worker and span.first <= found[-1].end:
            found[-1] = Span(span.worker, found[-1].first, max(span.end, found[-1].end))
        else:
            found.append(span)
    return found


def whole(stored: Stored, tally: Tally) -> GroupRecord | None:
    """The group itself; None, and counted, when it cannot be decoded."""
    try:
        return decode_group(stored.payload())
    except RecordError as error:
        tally.add_undecodable(stored.path, error)
        return None


def read_stored(
    log_dir: Path,
    *,
    include_open: bool = False,
    on_corrupt: OnCorrupt = OnCorrupt.RAISE,
    tally: Tally,
    advance: Callable[[Path], None] = lambda _: None,
) -> Iterator[tuple[Stored, GroupHead]]:
    """Every group of the log once, compacted or sealed, and on request those still written; one in memory at a time.

    Forgotten groups are passed by. Raises `SegmentCorrupt` for a file that fails its hash, unless `on_corrupt` says
    otherwise; a record that cannot be decoded is counted in `tally` and passed by. `advance` is told each file that is
    done. A segment that is compacted meanwhile is read from where it went.
    """
    tombstones = load_tombstones(log_dir)
    suffixes = (PARQUET, SEALED, OPEN) if include_open else (PARQUET, SEALED)
    done: set[SegmentKey] = set()
    moved = True
    while moved:
        moved = False
        for part in parts(log_dir, *suffixes):
            if part.keys <= done:
                continue
            try:
                if _holds(part, on_corrupt, tally):
                    yield from _read_part(part, done, tombstones, tally)
            except FileNotFoundError:
                moved = True
                continue
            done |= part.keys
            tally.segments += 1
            advance(part.path)


def _read_part(
    part: Part, done: Set[SegmentKey], tombstones: Tombstones, tally: Tally
) -> Iterator[tuple[Stored, GroupHead]]:
    end = part.first_seq
    for stored in part.stored(done):
        end = stored.position.seq + 1
        if stored.forgotten:
            tally.forgotten += 1
            continue
        try:
            head = stored.head()
        except RecordError as error:
            tally.add_undecodable(stored.path, error)
            continue
        if tombstones.covers(head):
            tally.forgotten += 1
            continue
        yield stored, head
    compacted = [Span(part.worker, each.first_seq, each.first_seq + each.frames) for each in part.compacted]
    tally.spans += compacted or [Span(part.worker, part.first_seq, end)]


def _holds(part: Part, on_corrupt: OnCorrupt, tally: Tally) -> bool:
    try:
        part.check()
    except SegmentCorrupt as error:
        if on_corrupt is OnCorrupt.RAISE:
            raise
        tally.damage["segment"] += 1
        tally.problems.append(str(error))
        if on_corrupt is OnCorrupt.QUARANTINE and part.path.exists():
            quarantine(part.path)
        return False
    return True
