"""An index of the group log for readers: SQLite beside the segments, made from them and from the labels alone.

It can be deleted at any time; so can a damaged one, and it is, by the next read. Every read first catches up with what
was appended since, under a lock that one process holds at a time. Readers that need everything go to the log itself.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Set
from contextlib import closing
from hashlib import blake2b
from itertools import groupby
from pathlib import Path
from typing import TypeVar

import msgspec

from router.errors import LogUnavailable, RecordError, SegmentCorrupt
from router.fs import locked
from router.log.labels import LABEL_FILE, Label, read_labels
from router.log.manifest import SegmentKey
from router.log.parts import PARQUET, Part, parts
from router.log.segments import FORGOTTEN, OPEN, SEALED, first_seq, payloads
from router.log.tombstones import TOMBSTONE_FILE, Tombstones, load_tombstones
from router.record_codec import decode_summary
from router.records import GroupSummary

T = TypeVar("T")

INDEX_FILE = "index.sqlite"
_LOCK = "index.lock"
_VERSION = 1
_STEP = 256  # groups or labels between two looks at the clock
_WINDOW = 32 * 1024  # bytes; longer than any label
_SCHEMA = f"""
PRAGMA user_version = {_VERSION};
CREATE TABLE segment (worker TEXT, first_seq INTEGER, frames INTEGER, sealed INTEGER, PRIMARY KEY (worker, first_seq));
CREATE TABLE grp (
  id TEXT PRIMARY KEY, worker TEXT, first_seq INTEGER, seq INTEGER, created_at REAL, tenant TEXT, status TEXT,
  reason TEXT, route TEXT, profile TEXT, policy TEXT, purpose TEXT, decisive INTEGER
);
CREATE INDEX grp_segment ON grp (worker, first_seq);
CREATE INDEX grp_profile ON grp (profile);
CREATE INDEX grp_tie ON grp (id) WHERE reason = 'tie';
CREATE TABLE label (
  end INTEGER PRIMARY KEY, group_id TEXT, at REAL, source TEXT, tenant TEXT, admin INTEGER, value REAL, rating INTEGER,
  team TEXT, minutes_saved REAL, resolved_at REAL, said BLOB
);
CREATE INDEX label_group ON label (group_id, source, end);
CREATE INDEX label_source ON label (source, at);
CREATE TABLE read (labels_end INTEGER, labels_digest BLOB, tombstones TEXT);
INSERT INTO read VALUES (0, x'', '');
"""


class GroupIndex:
    """The index of one log directory. It keeps nothing open, so that it may be used from any thread and process."""

    def __init__(self, log_dir: Path) -> None:
        self._dir, self._path = log_dir, log_dir / INDEX_FILE

    @property
    def exists(self) -> bool:
        """Whether there is one already."""
        return self._path.exists()

    def read(self, query: Callable[[sqlite3.Connection], T], budget_s: float = 1.0) -> tuple[T, bool]:
        """Catch up for at most about `budget_s`, then ask; and whether all of the log was in the index by then.

        Raises `LogUnavailable` when the index cannot be made, `RecordError` when the list of tombstones is damaged.
        """
        try:
            with locked(self._dir / _LOCK):
                try:
                    return self._read(query, budget_s)
                except sqlite3.DatabaseError:  # damaged, or of another version: it holds nothing that is not elsewhere
                    self._remove()
                    return self._read(query, budget_s)
        except (sqlite3.Error, OSError) as error:
            raise LogUnavailable(f"the index {self._path} cannot be used: {error}") from error

    def drop_older(self, oldest: float) -> None:
        """Drop the groups made before this Unix time, which the log does not hold any more. Raises as `read`."""
        self.read(lambda db: db.execute("DELETE FROM grp WHERE created_at < ?", (oldest,)).connection.commit())

    def _read(self, query: Callable[[sqlite3.Connection], T], budget_s: float) -> tuple[T, bool]:
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        with closing(sqlite3.connect(self._path)) as db:
            db.execute("PRAGMA secure_delete = ON")  # what was forgotten does not stay in free pages
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version == 0:
                db.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
            elif version != _VERSION or db.execute("SELECT 1 FROM read").fetchone() is None:
                raise sqlite3.DatabaseError(f"version {version}, or made in part")  # as earlier versions could leave it
            tombstones = load_tombstones(self._dir)
            self._forget(db, tombstones)
            until = time.monotonic() + budget_s
            complete = self._read_labels(db, until) and self._read_segments(db, tombstones, until)
            return query(db), complete

    def _remove(self) -> None:
        for path in (self._path, self._path.with_name(f"{INDEX_FILE}-journal")):
            path.unlink(missing_ok=True)

    def _forget(self, db: sqlite3.Connection, tombstones: Tombstones) -> None:
        path = self._dir / TOMBSTONE_FILE
        stamp = str(path.stat().st_size) if path.exists() else ""  # the list only grows
        if (stamp,) == db.execute("SELECT tombstones FROM read").fetchone():
            return
        with db:
            db.executemany("DELETE FROM grp WHERE id = ?", ((group,) for group in tombstones.groups))
            db.executemany("DELETE FROM grp WHERE tenant = ? AND created_at <= ?", tombstones.tenants.items())
            db.execute("UPDATE read SET tombstones = ?", (stamp,))

    def _read_labels(self, db: sqlite3.Connection, until: float) -> bool:
        """Whether the last label came before `until`."""
        ended = True
        end, digest = db.execute("SELECT labels_end, labels_digest FROM read").fetchone()
        with db:
            if self._labels_digest(end) != digest:  # labels were removed from the file
                db.execute("DELETE FROM label")
                end = 0
            for number, (behind, label) in enumerate(read_labels(self._dir, end), 1):
                end = behind
                if label is not None:
                    db.execute(f"INSERT INTO label VALUES ({', '.join('?' * 12)})", _label_row(end, label))
                if number % _STEP == 0 and time.monotonic() > until:
                    ended = False
                    break
            db.execute("UPDATE read SET labels_end = ?, labels_digest = ?", (end, self._labels_digest(end)))
        return ended

    def _labels_digest(self, end: int) -> bytes:
        """A digest of the last label that ends at this offset, with what stands before it in a fixed window."""
        start = max(0, end - _WINDOW)
        try:
            with (self._dir / LABEL_FILE).open("rb") as file:
                file.seek(start)
                window = file.read(end - start)
        except FileNotFoundError:
            window = b""
        return blake2b(window, digest_size=16).digest() if window else b""

    def _read_segments(self, db: sqlite3.Connection, tombstones: Tombstones, until: float) -> bool:
        """Newest segments first; whether every one was read to its end."""
        known = {
            (worker, first): (frames, sealed)
            for worker, first, frames, sealed in db.execute("SELECT worker, first_seq, frames, sealed FROM segment")
        }
        listed = parts(self._dir, PARQUET, SEALED, OPEN)
        with db:
            for gone in known.keys() - {key for part in listed for key in part.keys}:  # deleted, expired or set aside
                db.execute("DELETE FROM grp WHERE worker = ? AND first_seq = ?", gone)
                db.execute("DELETE FROM segment WHERE worker = ? AND first_seq = ?", gone)
        sealed = {key for key, (_, sealed) in known.items() if sealed}
        complete, late = True, False
        for part in reversed(listed):
            if part.keys <= sealed:
                continue
            if late:
                return False
            if part.compacted:
                complete &= _read_compacted(db, part, sealed, tombstones, until)
            else:
                skip = known.get((part.worker, part.first_seq), (0, False))[0]
                complete &= _read_segment(db, part.path, skip, tombstones, until)
            late = time.monotonic() > until
        return complete


def _read_compacted(
    db: sqlite3.Connection, part: Part, sealed: Set[SegmentKey], tombstones: Tombstones, until: float
) -> bool:
    """Take up the segments in a Parquet file that are not in `sealed`; whether the last came before `until`."""
    try:
        for first, stored in groupby(part.stored(skip=sealed), key=lambda each: each.first_seq):
            with db:
                for each in stored:
                    _insert(db, (part.worker, first, each.position.seq), each.payload(), tombstones)
                db.execute("INSERT OR REPLACE INTO segment VALUES (?, ?, 0, TRUE)", (part.worker, first))
            if time.monotonic() > until:
                return False
    except (LogUnavailable, FileNotFoundError, SegmentCorrupt):  # no pyarrow here, compacted again just now, or damaged
        return False
    with db:  # and those of which nothing is left
        db.executemany("INSERT OR REPLACE INTO segment VALUES (?, ?, 0, TRUE)", part.keys - sealed)
    return True


def _read_segment(db: sqlite3.Connection, path: Path, skip: int, tombstones: Tombstones, until: float) -> bool:
    """Take up the frames behind the first `skip`; whether the segment's end came before `until`."""
    worker, first, frames, ended = path.parent.name, first_seq(path), skip, True
    with db:
        for payload in payloads(path, skip=skip):
            _insert(db, (worker, first, first + frames), payload, tombstones)
            frames += 1
            if frames % _STEP == 0 and time.monotonic() > until:
                ended = False
                break
        sealed = ended and path.suffix == SEALED
        db.execute("INSERT OR REPLACE INTO segment VALUES (?, ?, ?, ?)", (worker, first, frames, sealed))
    return ended


def _insert(db: sqlite3.Connection, place: tuple[str, int, int], payload: bytes, tombstones: Tombstones) -> None:
    summary = _summary(payload)
    if summary is not None and not tombstones.covers(summary):
        db.execute(f"INSERT OR IGNORE INTO grp VALUES ({', '.join('?' * 13)})", _group_row(*place, summary))


def _summary(payload: bytes) -> GroupSummary | None:
    """None for a group that was forgotten, and for one that cannot be read."""
    try:
        return None if payload == FORGOTTEN else decode_summary(payload)
    except RecordError:
        return None


def _group_row(worker: str, first: int, seq: int, of: GroupSummary) -> tuple[object, ...]:
    decisive = any(check.klass == "decisive" for check in of.verification.checks)
    found_by = (of.tenant, of.status, of.reason, of.route, of.profile, of.policy, of.purpose, decisive)
    return (of.group_id, worker, first, seq, of.created_at, *found_by)


def _label_row(end: int, of: Label) -> tuple[object, ...]:
    who = (of.group_id, of.at, of.source, of.tenant, of.admin)
    return (end, *who, of.value, of.rating, of.team, of.minutes_saved, of.resolved_at, msgspec.json.encode(of))
