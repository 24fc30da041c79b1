"""What readers ask of the index of the group log: groups by their fields, one group, and those that wait for review."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from router.enums import Purpose, Reason, Status
from router.log.labels import Label, LabelSource
from router.log.parts import PARQUET, Position, parquet_module, parts
from router.log.segments import OPEN, payloads, segment_path
from router.log.tombstones import load_tombstones
from router.record_codec import decode_group
from router.records import GroupRecord

# A label counts when its author may speak of the group (`Label.counts_for`).
COUNTS = "(label.tenant = grp.tenant OR label.admin)"
_COLUMNS = "id, created_at, tenant, status, reason, route, profile, policy, purpose"
_EVERYTHING = "\uffff"  # above every id


@dataclass(frozen=True, slots=True)
class GroupRow:
    """A group as a list shows it. `created_at` is Unix time."""

    id: str
    created_at: float
    tenant: str
    status: str
    reason: str
    route: str
    profile: str | None
    policy: str
    purpose: str


@dataclass(frozen=True, slots=True)
class Page:
    """At most `limit` rows older than the group `after`; the newest without it."""

    limit: int = 20
    after: str | None = None


@dataclass(frozen=True, slots=True)
class Located:
    """Where a group's record is, and every label that counts for it, oldest first."""

    first_seq: int
    position: Position
    labels: tuple[Label, ...]


class Why(StrEnum):
    """Why a person should look at a group."""

    PROFILE = "profile"  # its profile asks for it
    DISPUTED = "disputed"  # feedback contradicts the verdict, or a decisive check left a tie
    AUDIT = "audit"  # an audit labelled it


@dataclass(frozen=True, slots=True)
class ReviewRow:
    """A group that waits for a review."""

    group: GroupRow
    why: tuple[Why, ...]


def list_groups(db: sqlite3.Connection, where: Mapping[str, str], page: Page) -> list[GroupRow]:
    """The groups whose columns (of `GroupRow`) have these values, newest first, and one more when there are more."""
    conditions = " AND ".join(["id < ?", *(f"{column} = ?" for column in where)])
    sql = f"SELECT {_COLUMNS} FROM grp WHERE {conditions} ORDER BY id DESC LIMIT ?"
    return [GroupRow(*row) for row in db.execute(sql, (page.after or _EVERYTHING, *where.values(), page.limit + 1))]


def locate(db: sqlite3.Connection, group_id: str) -> Located | None:
    """Where this group is; None when the index does not know it."""
    row = db.execute("SELECT worker, first_seq, seq FROM grp WHERE id = ?", (group_id,)).fetchone()
    if row is None:
        return None
    said = db.execute(
        f"SELECT said FROM label JOIN grp ON grp.id = label.group_id WHERE grp.id = ? AND {COUNTS} ORDER BY end",
        (group_id,),
    )
    return Located(row[1], Position(row[0], row[2]), tuple(msgspec.json.decode(each, type=Label) for (each,) in said))


def read_group(log_dir: Path, group_id: str, located: Located) -> GroupRecord | None:
    """The record at this place; None when it was forgotten or its file is gone.

    Raises `RecordError`, `OSError`, and `LogUnavailable` for a compacted group where pyarrow is missing.
    """
    payload = _payload_at(log_dir, located)
    if len(payload) < 2:  # the mark of a forgotten record, or no record
        return None
    record = decode_group(payload)
    return None if record.group_id != group_id or load_tombstones(log_dir).covers(record) else record


def _payload_at(log_dir: Path, located: Located) -> bytes:
    worker, seq = located.position.worker, located.position.seq
    path = segment_path(log_dir / worker, located.first_seq, OPEN)
    with suppress(FileNotFoundError):
        return next(payloads(path, skip=seq - located.first_seq), b"")
    for part in parts(log_dir, PARQUET):
        if (worker, located.first_seq) in part.keys:
            found: bytes = parquet_module().record_at(part.path, seq)
            return found
    return b""


def list_reviews(
    db: sqlite3.Connection, always: Sequence[str], unverified: Sequence[str], page: Page
) -> list[ReviewRow]:
    """Groups without a review that should have one, newest first, and one more when there are more.

    `always` and `unverified` are the profiles (`name@version`) that ask for a review of every answer, or of those that
    are not verified. Groups of evaluations and replays are never reviewed.
    """
    whys = {
        Why.PROFILE: f"profile IN ({_marks(always)}) OR profile IN ({_marks(unverified)}) AND status != ?",
        Why.DISPUTED: f"""reason = ? AND decisive OR status = ? AND {_feedback("< 0.5")}
            OR status = ? AND {_feedback(">= 0.5")}""",
        Why.AUDIT: _labelled(LabelSource.AUDIT),
    }
    values: list[str | int] = [*always, *unverified, Status.VERIFIED, Reason.TIE, Status.VERIFIED, Status.FAILED]
    candidates = f"""SELECT id FROM grp WHERE profile IN ({_marks((*always, *unverified))})
        UNION SELECT id FROM grp WHERE reason = '{Reason.TIE}' UNION SELECT group_id FROM label"""
    sql = f"""SELECT {_COLUMNS}, {", ".join(f"({each}) AS why_{why}" for why, each in whys.items())} FROM grp
        WHERE id IN ({candidates}) AND id < ? AND purpose = ? AND ({" OR ".join(f"why_{why}" for why in whys)})
        AND NOT {_labelled(LabelSource.REVIEW)} ORDER BY id DESC LIMIT ?"""
    values += [*always, *unverified, page.after or _EVERYTHING, Purpose.PROD, page.limit + 1]
    rows = db.execute(sql, values)
    return [_review(row) for row in rows]


def _review(row: tuple[Any, ...]) -> ReviewRow:
    columns = len(row) - len(Why)
    return ReviewRow(
        GroupRow(*row[:columns]), tuple(why for why, found in zip(Why, row[columns:], strict=True) if found)
    )


def _marks(values: Iterable[object]) -> str:
    return ", ".join("?" for _ in values)


def _labelled(source: LabelSource) -> str:
    """Whether a label of this source counts for the group."""
    return f"EXISTS (SELECT 1 FROM label WHERE group_id = grp.id AND source = '{source}' AND {COUNTS})"


def _feedback(compared: str) -> str:
    """Whether the newest feedback that says how far the task was solved compares like this."""
    return f"""(SELECT value FROM label WHERE group_id = grp.id AND source = '{LabelSource.FEEDBACK}'
        AND value IS NOT NULL AND {COUNTS} ORDER BY end DESC LIMIT 1) {compared}"""
