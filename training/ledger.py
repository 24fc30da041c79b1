"""The cycles of `thinktwice train --if-due`, and what of the group log each has read: SQLite, `ledger.sqlite`.

A cycle's result and the positions that it consumed are one transaction, so that no group is read for two results and
none is passed by, wherever a process is killed. What earlier versions kept (`ledger.jsonl`, `cycle.json`) is taken over
once, when there is no other; their cycles knew the newest group they had trained on in place of positions.
"""

from __future__ import annotations

import os
import sqlite3
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from router.errors import TrainingError
from router.log.groups import Span, joined
from router.log.parts import Position
from training.gate import Verdict

Marker: TypeAlias = tuple[float, str]  # when a group was made (Unix time, seconds), and its id

LEDGER_FILE = "ledger.sqlite"
_VERSION = 1
_SCHEMA = f"""
BEGIN;
PRAGMA user_version = {_VERSION};
CREATE TABLE cycle (number INTEGER PRIMARY KEY, id TEXT UNIQUE, ended INTEGER, body TEXT);
CREATE TABLE consumed (cycle TEXT, worker TEXT, first INTEGER, "end" INTEGER);
"""
_SCORES = "CREATE TABLE IF NOT EXISTS score (number INTEGER PRIMARY KEY, body TEXT)"  # made with the first score


class Exit(StrEnum):
    """How a cycle ended."""

    PROMOTED = "promoted"
    HELD = "held"
    DROPPED = "dropped"  # the champion changed before it was decided
    WITHDRAWN = "withdrawn"  # it did harm as a canary, or somebody withdrew it
    FAILED = "failed"  # in training


class Cycle(msgspec.Struct, frozen=True):
    """A cycle so far."""

    id: str
    epoch: int  # of the champion when it began
    ts: float = 0.0  # when it ended, Unix time in seconds
    policy: str | None = None
    parent: str | None = None  # the champion it goes on from; None: the base model
    groups: int = 0
    drops: dict[str, int] = {}  # groups by reason
    last_group: str | None = None
    last_group_at: float | None = None
    verdict: Verdict | None = None
    why: str = ""
    n01: int | None = None
    n10: int | None = None
    pairs: int | None = None
    p: float | None = None
    mde: float | None = None
    seconds: dict[str, float] = {}  # by phase
    exit: Exit | None = None


class Score(msgspec.Struct, frozen=True):
    """How many of the held-out questions the champion solved, without any training."""

    ts: float  # Unix time, seconds
    champion: str | None  # in the registry; None: the base model
    policy: str  # its name at the engine
    data_sha256: str
    solved: int
    n: int  # questions that were answered and judged
    seconds: float


@dataclass(frozen=True, slots=True)
class Consumed:
    """What of the log the cycles have read."""

    spans: dict[str, list[tuple[int, int]]] = field(default_factory=dict)  # by worker, first to before end, sorted
    marker: Marker | None = None  # the newest group of the cycles that kept no positions

    def covers(self, position: Position, made: Marker) -> bool:
        """Whether a cycle has read this group."""
        if self.marker is not None and made <= self.marker:
            return True
        spans = self.spans.get(position.worker, [])
        at = bisect_right(spans, (position.seq, float("inf")))
        return any(first <= position.seq < end for first, end in spans[max(0, at - 1) : at])


class Ledger:
    """The ledger in one folder; it keeps nothing open. Whoever writes holds the trainers' lock.

    A lock can be lost without notice, as on a network file system. So the row of the cycle under way is the fence: who
    begins one removes it, and nothing is written for a cycle whose row is gone or has ended.

    Raises `TrainingError` when the file is damaged, or when another trainer has begun a cycle since this one;
    `OSError` when it cannot be read or written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / LEDGER_FILE

    def unfinished(self) -> Cycle | None:
        """The cycle that a process left under way."""
        found = self._rows("SELECT body FROM cycle WHERE NOT ended")
        return msgspec.json.decode(found[0][0], type=Cycle) if found else None

    def begin(self, cycle: Cycle) -> None:
        """Put this cycle under way, in the place of any other."""
        with self._transaction() as db:
            db.execute("DELETE FROM cycle WHERE NOT ended")
            _insert(db, cycle, ended=False)

    def save(self, cycle: Cycle, consumed: Iterable[Span] = ()) -> None:
        """Keep the cycle under way as far as it has come, with what it has read of the log."""
        with self._transaction() as db:
            _update(db, cycle, ended=False)
            db.executemany("INSERT INTO consumed VALUES (?, ?, ?, ?)", ((cycle.id, *span) for span in consumed))

    def finish(self, cycle: Cycle) -> None:
        """Keep how the cycle under way ended."""
        with self._transaction() as db:
            _update(db, cycle, ended=True)

    def cycles(self) -> list[Cycle]:
        """The cycles that ended, in the order they began."""
        rows = self._rows("SELECT body FROM cycle WHERE ended ORDER BY number")
        return [msgspec.json.decode(body, type=Cycle) for (body,) in rows]

    def consumed(self) -> Consumed:
        """What the cycles that made a policy have read."""
        spans: dict[str, list[tuple[int, int]]] = {}
        for span in joined(Span(*row) for row in self._rows('SELECT worker, first, "end" FROM consumed')):
            spans.setdefault(span.worker, []).append((span.first, span.end))
        rows = self._rows("SELECT body FROM cycle WHERE ended AND id NOT IN (SELECT cycle FROM consumed)")
        known = [msgspec.json.decode(body, type=Cycle) for (body,) in rows]
        markers = [(each.last_group_at, each.last_group) for each in known]
        newest = max(((at, name) for at, name in markers if at is not None and name is not None), default=None)
        return Consumed(spans, newest)

    def add_score(self, score: Score) -> None:
        """Keep a score."""
        with self._transaction() as db:
            db.execute(_SCORES)
            db.execute("INSERT INTO score (body) VALUES (?)", (msgspec.json.encode(score).decode(),))

    def last_score(self) -> Score | None:
        """The newest score."""
        if not self._rows("SELECT 1 FROM sqlite_master WHERE name = 'score'"):
            return None
        rows = self._rows("SELECT body FROM score ORDER BY number DESC LIMIT 1")
        return msgspec.json.decode(rows[0][0], type=Score) if rows else None

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        if not self._path.exists() and not self._earlier():
            return []
        with self._transaction() as db:
            return db.execute(sql).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
            with closing(sqlite3.connect(self._path)) as db, db:
                (version,) = db.execute("PRAGMA user_version").fetchone()
                if version == 0:
                    db.executescript(_SCHEMA)
                    for cycle, ended in self._earlier():
                        _insert(db, cycle, ended=ended)
                    db.commit()
                elif version != _VERSION:
                    raise TrainingError(
                        f"{self._path} is of version {version}, this thinktwice reads {_VERSION}: upgrade it"
                    )
                yield db
        except sqlite3.OperationalError as error:
            raise OSError(f"cannot use {self._path}: {error}") from error
        except (sqlite3.DatabaseError, msgspec.MsgspecError) as error:
            raise TrainingError(f"{self._path} is damaged ({error}): restore it from a backup") from error

    def _earlier(self) -> list[tuple[Cycle, bool]]:
        """The cycles in files of earlier versions, and whether each has ended."""
        ended, under_way = self._folder / "ledger.jsonl", self._folder / "cycle.json"
        lines = ended.read_bytes().split(b"\n")[:-1] if ended.exists() else []
        try:
            found = [(msgspec.json.decode(line, type=Cycle), True) for line in lines]
            if under_way.exists():
                found.append((msgspec.json.decode(under_way.read_bytes(), type=Cycle), False))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise TrainingError(f"{ended} or {under_way.name} is damaged ({error}): remove the line or file") from error
        return found


def _insert(db: sqlite3.Connection, cycle: Cycle, *, ended: bool) -> None:
    body = msgspec.json.encode(cycle).decode()
    sql = "INSERT INTO cycle (id, ended, body) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"  # earlier files: in both
    db.execute(sql, (cycle.id, ended, body))


def _update(db: sqlite3.Connection, cycle: Cycle, *, ended: bool) -> None:
    body = msgspec.json.encode(cycle).decode()
    found = db.execute("UPDATE cycle SET ended = ?, body = ? WHERE id = ? AND NOT ended", (ended, body, cycle.id))
    if not found.rowcount:
        raise TrainingError("another trainer has begun a cycle since: this one ends, and changes nothing")
