"""Removing groups from the log for good: hidden from every reader at once, then cut out of the segments."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from router.errors import RecordError, SegmentCorrupt
from router.fs import drop_leftovers, locked
from router.log.compaction import REWRITE_LOCK, thin_out, tidy
from router.log.groups import recover_abandoned, segments
from router.log.index import GroupIndex
from router.log.labels import LABEL_FILE, forget_labels, read_labels
from router.log.parts import PARQUET, Part, parts, worker_dirs
from router.log.segments import CORRUPT, FORGOTTEN, OPEN, SEALED, payloads
from router.log.tombstones import Tombstones, add_tombstone, load_tombstones
from router.log.writer import rewrite
from router.record_codec import decode_head
from router.records import GroupHead


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What `forget` did."""

    removed: int  # groups cut out of the files
    labels: int  # labels removed
    pending: int  # groups hidden now and cut out when a running gateway seals their segment
    unsearchable: tuple[Path, ...]  # damaged segments, and those of a newer schema: they may hold more


def forget(
    log_dir: Path,
    *,
    tenant: str | None = None,
    group: str | None = None,
    advance: Callable[[Path], None] = lambda _: None,
) -> Forgotten:
    """Forget one group, or every group a tenant has had until now; exactly one of the two is given.

    The tombstone is on disk before the first segment is touched, every file is replaced by rename, and labels go before
    the groups they name: after a crash nothing forgotten is readable, and any later call removes what this one left.
    `advance` is told each sealed segment that is done. Raises `RecordError` when the list of tombstones is damaged,
    `OSError` when the log cannot be written.
    """
    with locked(log_dir / REWRITE_LOCK):
        if group is None or group not in load_tombstones(log_dir).groups:
            add_tombstone(log_dir, now=time.time(), tenant=tenant, group=group)
        for worker in worker_dirs(log_dir):
            drop_leftovers(worker, f"*{SEALED}")
        drop_leftovers(log_dir, LABEL_FILE)
        tidy(log_dir)
        tombstones = load_tombstones(log_dir)
        labels = _forget_labels(log_dir, tombstones)
        removed = sum(found.forgotten for found in recover_abandoned(log_dir))
        unsearchable = [part.path for part in parts(log_dir, CORRUPT)]
        named = _Named(tombstones)
        for part in parts(log_dir, PARQUET, SEALED):
            named.undecodable = 0
            try:
                part.check()
                removed += thin_out(log_dir, part, tombstones.covers) if part.compacted else rewrite(part.path, named)
            except SegmentCorrupt:
                unsearchable.append(part.path)
            if named.undecodable:
                unsearchable.append(part.path)
            advance(part.path)
        if (index := GroupIndex(log_dir)).exists:
            index.read(lambda _: None)
        pending = sum(named(payload) for path in segments(log_dir, OPEN) for payload in payloads(path))
    return Forgotten(removed, labels, pending, tuple(unsearchable))


def _forget_labels(log_dir: Path, tombstones: Tombstones) -> int:
    """Remove the labels by forgotten tenants, and everybody's labels of forgotten groups."""
    by_others = {
        label.group_id for _, label in read_labels(log_dir) if label is not None and not tombstones.covers_label(label)
    }
    hidden = {
        head.group_id
        for part in (parts(log_dir, PARQUET, SEALED, OPEN) if by_others else ())
        for head in _heads(part)
        if head.group_id in by_others and tombstones.covers(head)
    }
    return forget_labels(log_dir, lambda label: tombstones.covers_label(label) or label.group_id in hidden)


def _heads(part: Part) -> Iterator[GroupHead]:
    """Of the records of a file that can be read; of a damaged segment as far as it is whole."""
    if part.compacted:
        try:
            part.check()
        except SegmentCorrupt:
            return
    for stored in part.stored():
        with suppress(RecordError):
            if not stored.forgotten:
                yield stored.head()


class _Named:
    """Whether the group of a payload was forgotten; counts the payloads that do not tell."""

    def __init__(self, tombstones: Tombstones) -> None:
        self.undecodable = 0
        self._tombstones = tombstones

    def __call__(self, payload: bytes) -> bool:
        if payload == FORGOTTEN:
            return False
        try:
            return self._tombstones.covers(decode_head(payload))
        except RecordError:
            self.undecodable += 1
            return False
