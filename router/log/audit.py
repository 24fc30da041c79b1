"""Checking a whole group log, byte by byte, without changing it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from router.errors import RecordError, SegmentCorrupt
from router.log.groups import is_live
from router.log.labels import LABEL_FILE, read_labels
from router.log.parts import PARQUET, Part, parts
from router.log.segments import CORRUPT, OPEN, SEALED, Damage, scan
from router.log.tombstones import Tombstones, load_tombstones
from router.record_codec import decode_group


@dataclass(slots=True)
class Audit:
    """What was found."""

    segments: int = 0
    groups: int = 0
    forgotten: int = 0  # records that were removed
    labels: int = 0
    hidden: int = 0  # forgotten groups whose content is still in a segment
    torn_bytes: int = 0  # unfinished tails of dead writers, which the next start cuts off
    damage: Counter[str] = field(default_factory=Counter)  # by reason
    problems: list[str] = field(default_factory=list)  # one line each

    def add(self, reason: str, line: str) -> None:
        """Count one piece of damage."""
        self.damage[reason] += 1
        self.problems.append(line)


def audit(log_dir: Path, advance: Callable[[Path], None] = lambda _: None) -> Audit:
    """Check frames, CRCs, hashes, records, duplicate group ids and labels; `advance` is told each segment that is done.

    The unfinished end of a segment that a running gateway writes, or that a dead one left, is not damage. Memory grows
    by about 100 bytes a group, for the duplicates. Raises `RecordError` when the list of tombstones is damaged.
    """
    found = Audit()
    tombstones = load_tombstones(log_dir)
    seen: set[bytes] = set()
    for part in parts(log_dir, PARQUET, SEALED, OPEN, CORRUPT):
        found.segments += 1
        if _holds(part, found):
            _check_records(part, found, tombstones, seen)
        advance(part.path)
    for number, (_, label) in enumerate(read_labels(log_dir), 1):
        if label is None:
            found.add("label", f"{log_dir / LABEL_FILE}, line {number}, is damaged: repair it or remove the line")
        else:
            found.labels += 1
    return found


def _holds(part: Part, found: Audit) -> bool:
    """Whether the file's records can be read; what is wrong with its bytes is noted."""
    path = part.path
    if path.suffix == CORRUPT:
        found.add("quarantined", f"{path}: set aside as damaged: restore it from a backup or delete it")
        return False
    if path.suffix != OPEN:
        try:
            part.check()
        except SegmentCorrupt as error:
            found.add("segment", str(error))
            return False
        return True
    tail = scan(path)
    if not is_live(path.parent) and path.exists():
        torn = path.stat().st_size - tail.end
        if tail.damage is Damage.TRUNCATED:
            found.torn_bytes += torn
        elif tail.damage is not None:
            found.add(
                tail.damage.value, f"{path}: bad {tail.damage} at byte {tail.end}, {torn} bytes behind it are lost"
            )
    return True


def _check_records(part: Part, found: Audit, tombstones: Tombstones, seen: set[bytes]) -> None:
    for stored in part.stored():
        if stored.forgotten:
            found.forgotten += 1
            continue
        where = f"{stored.path}: record {stored.position.seq}"
        try:
            record = decode_group(stored.payload())
        except RecordError as error:
            found.add("record", f"{where}: {error}")
            continue
        if tombstones.covers(record):
            found.hidden += 1
            continue
        found.groups += 1
        key = blake2b(record.group_id.encode(), digest_size=16).digest()
        if key in seen:
            found.add("duplicate", f"{where}: group {record.group_id} is in the log twice")
        seen.add(key)
