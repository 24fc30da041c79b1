"""The directory of the group log: `<log dir>/<worker>/<first_seq>.open|.sealed|.corrupt`, one writer a worker."""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from pathlib import Path

from router.errors import RecordError, SegmentCorrupt
from router.fs import drop_leftovers, fsync_dir, try_lock
from router.log.segments import CORRUPT, FORGOTTEN, OPEN, SEALED, check_seal, next_seq_after, payloads
from router.log.tombstones import Tombstones, load_tombstones, sealing
from router.log.writer import Recovered, quarantine, recover
from router.records import GroupRecord, decode_group

_LOCK = "lock"


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Where a record is. It keeps its position for ever, whatever is forgotten around it."""

    worker: str
    seq: int


class OnCorrupt(StrEnum):
    """What a reader does with a sealed segment that fails its hash."""

    RAISE = "raise"
    SKIP = "skip"
    QUARANTINE = "quarantine"


@dataclass(slots=True)
class Tally:
    """What a reader met, besides the records it yielded."""

    segments: int = 0
    forgotten: int = 0
    damage: Counter[str] = field(default_factory=Counter)  # by reason: "segment", "record"
    problems: list[str] = field(default_factory=list)  # one line for each damaged segment


class WorkerDir:
    """A worker's directory, held against every other process until `release`."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    def next_seq(self) -> int:
        """The first sequence number that no record of this worker has."""
        last = max(_segment_files(self.path), default=None)
        return 0 if last is None else next_seq_after(last)

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


def worker_dirs(log_dir: Path) -> list[Path]:
    """The workers' directories, by name."""
    return sorted((path for path in log_dir.glob("w*") if path.is_dir()), key=lambda path: (len(path.name), path.name))


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
    """The segments of all workers with one of these suffixes, in order of worker and sequence."""
    return [path for worker in worker_dirs(log_dir) for path in _segment_files(worker) if path.suffix in suffixes]


def read_groups(
    log_dir: Path,
    *,
    include_open: bool = False,
    on_corrupt: OnCorrupt = OnCorrupt.RAISE,
    tally: Tally | None = None,
) -> Iterator[tuple[Position, GroupRecord]]:
    """The groups of all sealed segments, and on request of those still written, one in memory at a time.

    Forgotten groups are passed by. Raises `SegmentCorrupt` for a sealed segment that fails its hash, unless
    `on_corrupt` says otherwise; a record that cannot be decoded is counted in `tally` and passed by.
    """
    tally = tally or Tally()
    tombstones = load_tombstones(log_dir)
    for path in segments(log_dir, SEALED, OPEN) if include_open else segments(log_dir, SEALED):
        yield from read_segment(path, tombstones, on_corrupt, tally)


def read_segment(
    path: Path, tombstones: Tombstones, on_corrupt: OnCorrupt, tally: Tally
) -> Iterator[tuple[Position, GroupRecord]]:
    """The groups of one segment; see `read_groups`."""
    tally.segments += 1
    if path.suffix == SEALED and not _seal_holds(path, on_corrupt, tally):
        return
    first = int(path.stem)
    undecodable: Counter[str] = Counter()
    for offset, payload in enumerate(payloads(path)):
        if payload == FORGOTTEN:
            tally.forgotten += 1
            continue
        try:
            record = decode_group(payload)
        except RecordError as error:
            undecodable[str(error)] += 1
            continue
        if tombstones.covers(record):
            tally.forgotten += 1
            continue
        yield Position(path.parent.name, first + offset), record
    tally.damage.update({"record": undecodable.total()} if undecodable else {})
    tally.problems += [f"{path}: {number} record(s): {reason}" for reason, number in undecodable.items()]


def _seal_holds(path: Path, on_corrupt: OnCorrupt, tally: Tally) -> bool:
    try:
        check_seal(path)
    except SegmentCorrupt as error:
        if on_corrupt is OnCorrupt.RAISE:
            raise
        tally.damage["segment"] += 1
        tally.problems.append(str(error))
        if on_corrupt is OnCorrupt.QUARANTINE:
            quarantine(path)
        return False
    return True


def _segment_files(worker: Path) -> list[Path]:
    found = (path for path in worker.iterdir() if path.suffix in (OPEN, SEALED, CORRUPT) and path.stem.isdigit())
    return sorted(found)
