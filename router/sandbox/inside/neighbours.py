"""Databases near a fixture's, and one query on each. It is loaded into a sandbox as a candidate would be."""

from __future__ import annotations

import sqlite3
from typing import Any, Literal

MAX_CHANGES = 16  # of one fixture
MAX_ROWS = 2000


def changes(setup: str) -> list[str]:
    """The statements that change one row of a table and that its constraints allow.

    A row dropped and a row doubled, of every table; then NULL in place of one cell, of every column (Zhong, Yu and
    Klein, EMNLP 2020: a query that is right on one database by chance seldom is on its neighbours). A first column
    without NULL or repetition is taken for a key, declared or not: it stays one, the double getting the next number.
    """
    database = _database(setup)
    drops, doubles, cells = [], [], []
    for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        name = _quoted(table)
        columns = [_quoted(column[1]) for column in database.execute(f"PRAGMA table_info({name})")]
        keyed = _is_key(database, name, columns[0])
        values = [f"(SELECT MAX({columns[0]}) + 1 FROM {name})" if keyed else columns[0], *columns[1:]]
        one = f"WHERE rowid = (SELECT MIN(rowid) FROM {name})"
        drops.append(f"DELETE FROM {name} {one}")
        doubles.append(f"INSERT INTO {name} SELECT {', '.join(values)} FROM {name} {one}")
        cells += [f"UPDATE {name} SET {column} = NULL {one}" for column in columns[keyed:]]
    return [change for change in drops + doubles + cells if _allowed(database, change)][:MAX_CHANGES]


def answer(setup: str, change: str, query: str, backwards: bool) -> list[list[Any]] | Literal["setup"] | None:
    """The rows of a query after a change; None where it does not run or returns more than `MAX_ROWS`.

    "setup" where that does not run. `backwards` has SQLite return rows that nothing sorts in the reverse order. A BLOB
    is the tuple `("blob", hex)`.
    """
    try:
        database = _database(setup)
    except (sqlite3.Error, sqlite3.Warning, MemoryError):
        return "setup"
    database.execute(change)
    database.execute("PRAGMA query_only = ON")
    database.execute(f"PRAGMA reverse_unordered_selects = {int(backwards)}")
    try:
        found = database.execute(query).fetchmany(MAX_ROWS + 1)
    except (sqlite3.Error, sqlite3.Warning, OverflowError, ValueError):
        return None
    if len(found) > MAX_ROWS:
        return None
    return [[("blob", cell.hex()) if isinstance(cell, bytes) else cell for cell in row] for row in found]


def _database(setup: str) -> sqlite3.Connection:
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.executescript(setup)
    database.execute("PRAGMA foreign_keys = ON")  # no neighbour breaks what the schema promises
    return database


def _is_key(database: sqlite3.Connection, table: str, column: str) -> bool:
    counts = f"SELECT COUNT(*), COUNT(DISTINCT {column}) FROM {table}"
    rows, values = database.execute(counts).fetchone()
    return bool(rows == values)


def _allowed(database: sqlite3.Connection, change: str) -> bool:
    database.execute("SAVEPOINT before")
    try:
        return database.execute(change).rowcount == 1
    except sqlite3.Error:
        return False
    finally:
        database.execute("ROLLBACK TO before")
        database.execute("RELEASE before")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
