"""Runs one query on one fixture, in memory. It is loaded into a sandbox as a candidate would be."""

from __future__ import annotations

import sqlite3
from typing import Any

MAX_ROWS = 1000
_READS = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE})


def rows(setup: str, query: str) -> tuple[str, list[list[Any]]]:
    """`("rows", rows)` of the query; `("setup", [])` or `("query", [])` when that one does not run.

    The query may only read. At most `MAX_ROWS` rows, else `("many", [])`; a BLOB is the tuple `("blob", hex)`.
    """
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.execute("PRAGMA temp_store = MEMORY")
    try:
        database.executescript(setup)
    except (sqlite3.Error, sqlite3.Warning):
        return "setup", []
    database.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in _READS else sqlite3.SQLITE_DENY)
    try:
        cursor = database.execute(query)
        found = cursor.fetchmany(MAX_ROWS + 1)
    except (sqlite3.Error, sqlite3.Warning, OverflowError, ValueError):
        return "query", []
    if cursor.description is None:
        return "query", []
    if len(found) > MAX_ROWS:
        return "many", []
    return "rows", [[("blob", cell.hex()) if isinstance(cell, bytes) else cell for cell in row] for row in found]
