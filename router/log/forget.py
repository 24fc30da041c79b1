"""Removing groups from the log for good: hidden from every reader at once, then cut out of the segments."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from router.errors import RecordError, SegmentCorrupt
from router.fs import drop_leftovers, locked
from router.log.groups import recover_abandoned, segments, worker_dirs
from router.log.index import GroupIndex
from router.log.labels import LABEL_FILE, forget_labels, read_labels
from router.log.segments import CORRUPT, FORGOTTEN, OPEN, SEALED, check_seal, payloads
from router.log.tombstones import Tombstones, add_tombstone, load_tombstones
from router.log.writer import rewrite
from router.records import decode_group


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What `forget` did."""

    removed: int  # groups cut out of the segments
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
    with locked(log_dir / "forget.lock"):
        if group is None or group not in load_tombstones(log_dir).groups:
            add_tombstone(log_dir, now=time.time(), tenant=tenant, group=group)
        for worker in worker_dirs(log_dir):
            drop_leftovers(worker, f"*{SEALED}")
        drop_leftovers(log_dir, LABEL_FILE)
        tombstones = load_tombstones(log_dir)
        labels = _forget_labels(log_dir, tombstones)
        removed = sum(found.forgotten for found in recover_abandoned(log_dir))
        unsearchable = segments(log_dir, CORRUPT)
        named = _Named(tombstones)
        for path in segments(log_dir, SEALED):
            named.undecodable = 0
            try:
                check_seal(path)
                removed += rewrite(path, named)
            except SegmentCorrupt:
                unsearchable.append(path)
            if named.undecodable:
                unsearchable.append(path)
            advance(path)
        if (index := GroupIndex(log_dir)).exists:
            index.read(lambda _: None)
        pending = sum(named(payload) for path in segments(log_dir, OPEN) for payload in payloads(path))
    return Forgotten(removed, labels, pending, tuple(unsearchable))


def _forget_labels(log_dir: Path, tombstones: Tombstones) -> int:
    """Remove the labels by forgotten tenants, and everybody's labels of forgotten groups."""
    by_others = {
        label.group_id for _, label in read_labels(log_dir) if label is not None and not tombstones.covers_label(label)
    }
    hidden: set[str] = set()
    for path in segments(log_dir, SEALED, OPEN) if by_others else ():
        for payload in payloads(path):
            with suppress(RecordError):
                if payload != FORGOTTEN and (record := decode_group(payload)).group_id in by_others:
                    hidden |= {record.group_id} if tombstones.covers(record) else set()
    return forget_labels(log_dir, lambda label: tombstones.covers_label(label) or label.group_id in hidden)


class _Named:
    """Whether the group of a payload was forgotten; counts the payloads that do not tell."""

    def __init__(self, tombstones: Tombstones) -> None:
        self.undecodable = 0
        self._tombstones = tombstones

    def __call__(self, payload: bytes) -> bool:
        if payload == FORGOTTEN:
            return False
        try:
            return self._tombstones.covers(decode_group(payload))
        except RecordError:
            self.undecodable += 1
            return False
