"""Which segments were compacted, into which Parquet file: SQLite in the log directory, changed by whole transactions.

What the manifest names is what the log holds: a segment that is in it is read from its Parquet file, and a Parquet file
that is not in it is what a crash left. Its segments stay in it for ever, so that no sequence number is used twice.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from router.errors import RecordError

SegmentKey: TypeAlias = tuple[str, int]  # worker, first sequence number

MANIFEST_FILE = "manifest.sqlite"
PARQUET_DIR = "parquet"
_VERSION = 1
_SCHEMA = f"""
PRAGMA user_version = {_VERSION};
CREATE TABLE file (name TEXT PRIMARY KEY, sha256 BLOB, rows INTEGER, oldest REAL);
CREATE TABLE segment (
  worker TEXT, first_seq INTEGER, frames INTEGER, sha256 BLOB, file TEXT REFERENCES file,
  PRIMARY KEY (worker, first_seq)
);
"""


@dataclass(frozen=True, slots=True)
class CompactedFile:
    """A Parquet file. `oldest` is the Unix time of its oldest group."""

    name: str
    sha256: bytes
    rows: int
    oldest: float


@dataclass(frozen=True, slots=True)
class CompactedSegment:
    """A segment that was compacted. `file` is the name of its Parquet file, None when nothing of it was kept."""

    worker: str
    first_seq: int
    frames: int
    sha256: bytes  # that it was sealed with
    file: str | None

    @property
    def key(self) -> SegmentKey:
        """What tells it from every other segment."""
        return self.worker, self.first_seq


class Manifest:
    """The manifest of one log directory; it keeps nothing open. Raises `RecordError` when damaged, else `OSError`."""

    def __init__(self, log_dir: Path) -> None:
        self._path = log_dir / MANIFEST_FILE

    def segments(self) -> list[CompactedSegment]:
        """Every segment that was ever compacted, by worker and sequence."""
        return [CompactedSegment(*row) for row in self._rows("SELECT * FROM segment ORDER BY worker, first_seq")]

    def files(self) -> list[CompactedFile]:
        """Every Parquet file, by name."""
        return [CompactedFile(*row) for row in self._rows("SELECT * FROM file ORDER BY name")]

    def next_seq(self, worker: str) -> int:
        """The first sequence number that no compacted record of this worker has."""
        [(found,)] = self._rows("SELECT max(first_seq + frames) FROM segment WHERE worker = ?", worker) or [(None,)]
        return int(found or 0)

    def add(self, segments: Iterable[CompactedSegment], file: CompactedFile | None) -> None:
        """Make these segments compacted, into this file if anything of them was kept; all of it or nothing."""
        with self._transaction() as db:
            if file is not None:
                _insert(db, file)
            rows = ((each.worker, each.first_seq, each.frames, each.sha256, each.file) for each in segments)
            db.executemany("INSERT INTO segment VALUES (?, ?, ?, ?, ?)", rows)

    def replace(self, old: str, new: CompactedFile | None) -> None:
        """Put one file in the place of another, or none where nothing of it is kept."""
        with self._transaction() as db:
            if new is not None:
                _insert(db, new)
            db.execute("UPDATE segment SET file = ? WHERE file = ?", (new.name if new else None, old))
            db.execute("DELETE FROM file WHERE name = ?", (old,))

    def _rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        if not self._path.exists():
            return []
        with self._connected() as db:
            return db.execute(sql, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        with self._connected() as db, db:
            yield db

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self._path)) as db:
                (version,) = db.execute("PRAGMA user_version").fetchone()
                if version == 0:
                    db.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
                elif version != _VERSION:
                    raise RecordError(
                        f"{self._path} is of version {version}, this thinktwice reads {_VERSION}: upgrade it"
                    )
                yield db
        except sqlite3.OperationalError as error:
            raise OSError(f"cannot use the manifest {self._path}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise RecordError(
                f"the manifest {self._path} cannot be used ({error}): restore it from a backup"
            ) from error


def _insert(db: sqlite3.Connection, file: CompactedFile) -> None:
    db.execute("INSERT INTO file VALUES (?, ?, ?, ?)", (file.name, file.sha256, file.rows, file.oldest))
