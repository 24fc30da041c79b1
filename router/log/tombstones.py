"""What was forgotten: a list beside the segments that every reader honours before it yields a group."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from router.errors import RecordError
from router.fs import append_line_durably, locked
from router.log.labels import Label
from router.record_codec import decode_head
from router.records import GroupHead, GroupRecord, GroupSummary

TOMBSTONE_FILE = "tombstones.jsonl"
_LOCK = "tombstones.lock"


@dataclass(frozen=True, slots=True)
class Tombstones:
    """Forgotten groups by id, and tenants with the Unix time up to which their groups are forgotten."""

    groups: frozenset[str] = frozenset()
    tenants: Mapping[str, float] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.groups or self.tenants)

    def covers(self, record: GroupRecord | GroupSummary | GroupHead) -> bool:
        """Whether this group was forgotten, or the one whose prompt it repeats."""
        named = record.group_id in self.groups or record.replays in self.groups
        return named or record.created_at <= self.tenants.get(record.tenant, float("-inf"))

    def covers_label(self, label: Label) -> bool:
        """Whether this label was forgotten with its author's tenant or, by its id, with its group."""
        return label.group_id in self.groups or label.at <= self.tenants.get(label.tenant, float("-inf"))

    def covers_payload(self, payload: bytes) -> bool:
        """`covers` for a stored payload; one that cannot be decoded is not covered."""
        try:
            return self.covers(decode_head(payload))
        except RecordError:
            return False


def load_tombstones(log_dir: Path) -> Tombstones:
    """Everything forgotten so far. Raises `RecordError` when the list is damaged: guessing would show the forgotten."""
    path = log_dir / TOMBSTONE_FILE
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return Tombstones()
    groups: set[str] = set()
    tenants: dict[str, float] = {}
    for number, line in enumerate(lines[:-1], 1):  # an unfinished last line was never acknowledged
        try:
            entry = json.loads(line)
            if "group" in entry:
                groups.add(str(entry["group"]))
            else:
                tenants[str(entry["tenant"])] = max(float(entry["ts"]), tenants.get(entry["tenant"], 0.0))
        except (ValueError, KeyError, TypeError) as error:
            raise RecordError(f"{path}, line {number}, is damaged: repair it or remove the line") from error
    return Tombstones(frozenset(groups), tenants)


def add_tombstone(log_dir: Path, *, now: float, tenant: str | None = None, group: str | None = None) -> None:
    """Forget one group, or all groups of a tenant made up to `now` (Unix time); durable when this returns."""
    entry: dict[str, Any] = {"ts": now, "group": group} if group is not None else {"ts": now, "tenant": tenant}
    path = log_dir / TOMBSTONE_FILE
    with sealing(log_dir):
        append_line_durably(path, json.dumps(entry).encode())


def sealing(log_dir: Path) -> AbstractContextManager[None]:
    """Lock under which segments are sealed and tombstones added, so that none is sealed unaware of a tombstone."""
    return locked(log_dir / _LOCK)
