"""The `search_notes` tool: full-text search over a folder of the operator's documents, in memory (SQLite FTS5)."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from router.errors import ConfigError, ToolError
from router.tool_types import MAX_HITS

SUFFIXES = (".md", ".txt")
MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_TERMS = 16
QUERY_S = 2.0  # a query that takes longer is ended inside SQLite
REFRESH_S = 2.0  # files are looked at again at most this often
_DEFAULT_HITS = 4
_PASSAGE_CHARS = 1200
_SNIPPET_TOKENS = 64  # the most that SQLite gives
_STEPS = 10_000  # of SQLite's machine between two looks at the clock
_TERM = re.compile(r"\w{1,64}")
_SCHEMA = """
CREATE TABLE files (path TEXT PRIMARY KEY, stamp TEXT NOT NULL);
CREATE VIRTUAL TABLE passages USING fts5 (path UNINDEXED, text, tokenize = 'porter unicode61 remove_diacritics 2');
"""
_SEARCH = """
SELECT path, snippet(passages, 1, '', '', ' ... ', ?) FROM passages WHERE passages MATCH ? ORDER BY rank LIMIT ?
"""

_log = logging.getLogger(__name__)


class NotesIndex:
    """`router.ports.Tool` over one folder. Everything that touches the index runs in one thread of its own.

    Only files below the folder are read: a link that leads out of it is left alone, and so is a hidden file.
    """

    def __init__(self, folder: Path) -> None:
        """Raises `ConfigError` when there is no such folder."""
        if not folder.is_dir():
            raise ConfigError(f"the notes folder {folder} does not exist: make it, or set [tools.search_notes] dir")
        self._folder = folder.resolve()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="notes")
        self._index = sqlite3.connect(":memory:", check_same_thread=False)
        self._index.executescript(_SCHEMA)
        self._index.execute("PRAGMA query_only = ON")
        self._looked = -REFRESH_S

    async def open(self) -> NotesIndex:
        """Index the folder."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._refresh)
        return self

    async def close(self) -> None:
        """Wait for the query under way, then free the index."""
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)
        self._index.close()

    async def call(self, arguments: Mapping[str, Any]) -> str:
        """The best passages, each under its file's name. Raises `ToolError`, and `TimeoutError` past `QUERY_S`."""
        query, limit = arguments.get("query"), arguments.get("limit", _DEFAULT_HITS)
        if not isinstance(query, str):
            raise ToolError("search_notes needs `query`, a string")
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_HITS:
            raise ToolError(f"`limit` must be a whole number from 1 to {MAX_HITS}")
        terms = list(dict.fromkeys(_TERM.findall(query.casefold())))[:MAX_TERMS]
        if not terms:
            raise ToolError("the query holds no word")
        gone = threading.Event()
        try:
            hits = await asyncio.get_running_loop().run_in_executor(self._thread, self._search, terms, limit, gone)
        finally:
            gone.set()
        return "\n\n".join(f"[{path}]\n{text}" for path, text in hits) or "No passage holds any of these words."

    def _search(self, terms: list[str], limit: int, gone: threading.Event) -> list[tuple[str, str]]:
        """Ends within `QUERY_S` seconds, and at once when its caller has `gone`."""
        self._refresh()
        deadline = time.monotonic() + QUERY_S
        self._index.set_progress_handler(lambda: gone.is_set() or time.monotonic() > deadline, _STEPS)
        quoted = " OR ".join(f'"{term}"' for term in terms)  # as strings: none is an operator or a column
        try:
            return self._index.execute(_SEARCH, (_SNIPPET_TOKENS, quoted, limit)).fetchall()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                raise TimeoutError from error
            raise ToolError("the notes cannot be searched now") from error
        finally:
            self._index.set_progress_handler(None, 0)

    def _refresh(self) -> None:
        """Bring the index up to date with the files that came, changed or went since the last look."""
        if time.monotonic() - self._looked < REFRESH_S:
            return
        found = dict(self._files())
        known = dict(self._index.execute("SELECT path, stamp FROM files"))
        if found != known:
            self._index.execute("PRAGMA query_only = OFF")
            with self._index:
                for path, _ in known.items() - found.items():
                    self._forget(path)
                for path, stamp in found.items() - known.items():
                    self._add(path, stamp)
            self._index.execute("PRAGMA query_only = ON")
            _log.info("search_notes: %d files in %s", len(found), self._folder)
        self._looked = time.monotonic()

    def _files(self) -> Iterator[tuple[str, str]]:
        """Each file's path below the folder, and a stamp that changes when it does."""
        for parent, folders, names in os.walk(self._folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in names:
                path = Path(parent, name)
                below = str(path.relative_to(self._folder))
                readable = not name.startswith(".") and below.isprintable() and path.suffix.lower() in SUFFIXES
                if not readable or not self._inside(path):
                    continue
                try:
                    state = path.stat()
                except OSError:
                    continue  # it went while we looked
                if state.st_size <= MAX_FILE_BYTES:
                    yield below, f"{state.st_mtime_ns} {state.st_size} {state.st_ino}"

    def _inside(self, path: Path) -> bool:
        return path.is_file() and path.resolve().is_relative_to(self._folder)

    def _forget(self, path: str) -> None:
        self._index.execute("DELETE FROM passages WHERE path = ?", (path,))
        self._index.execute("DELETE FROM files WHERE path = ?", (path,))

    def _add(self, path: str, stamp: str) -> None:
        try:
            text = (self._folder / path).read_text(errors="replace")
        except OSError as error:
            _log.warning("search_notes: %s cannot be read: %s", path, error.strerror)
            text = ""
        self._index.executemany("INSERT INTO passages VALUES (?, ?)", ((path, part) for part in passages(text)))
        self._index.execute("INSERT INTO files VALUES (?, ?)", (path, stamp))


def passages(text: str) -> Iterator[str]:
    """A document in pieces of whole paragraphs, of at most 1200 characters where its paragraphs allow it."""
    piece = ""
    for paragraph in filter(None, map(str.strip, re.split(r"\n\s*\n", text))):
        if piece and len(piece) + len(paragraph) > _PASSAGE_CHARS:
            yield piece
            piece = ""
        piece = f"{piece}\n\n{paragraph}" if piece else paragraph
    if piece:
        yield piece
