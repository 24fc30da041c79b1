"""Runs queries on fixtures, in memory. It is loaded into a sandbox as a candidate would be."""

from __future__ import annotations

import sqlite3
from typing import Any

MAX_ROWS = 1000
_READS = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE})
_databases: list[sqlite3.Connection] = []  # a sandbox judges one answer


def prepare(setups: list[str]) -> bool:
    """Make a database of each setup; whether all of them run."""
    for setup in setups:
        database = sqlite3.connect(":memory:", isolation_level=None)
        database.execute("PRAGMA temp_store = MEMORY")
        try:
            database.executescript(setup)
        except (sqlite3.Error, sqlite3.Warning, MemoryError):
            return False
        database.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in _READS else sqlite3.SQLITE_DENY)
        _databases.append(database)
    return True


def rows(index: int, query: str) -> tuple[str, list[list[Any]]]:
    """`("rows", rows)` of a query on the database of that setup; `("query", [])` when it does not run.

    The query may only read. At most `MAX_ROWS` rows, else `("many", [])`; a BLOB is the tuple `("blob", hex)`.
    """
    try:
        cursor = _databases[index].execute(query)
        found = cursor.fetchmany(MAX_ROWS + 1)
    except (sqlite3.Error, sqlite3.Warning, OverflowError, ValueError):
        return "query", []
    if cursor.description is None:
        return "query", []
    if len(found) > MAX_ROWS:
        return "many", []
    return "rows", [[("blob", cell.hex()) if isinstance(cell, bytes) else cell for cell in row] for row in found]
