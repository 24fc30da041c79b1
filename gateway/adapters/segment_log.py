"""The group log on disk: one writer thread commits what requests hand over, many groups with one fsync.

A group handed over is never dropped while the process lives: when the disk refuses, the writer keeps what it has and
tries again, and `admit` turns new requests away once too many groups wait.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from msgspec import Struct

from gateway.adapters.segment_file import SegmentFile
from router.errors import ConfigError, LogUnavailable, RecordError
from router.log.redaction import Redactor
from router.log.segments import frame
from router.record_codec import encode
from router.records import GroupRecord
from router.settings import LogSection

_COMMIT_BYTES = 256 * 1024  # a batch this large does not wait for the rest of the commit interval
_TICK_S = 1.0  # how often free space and the segment's age are looked at without traffic
_BACKOFF_S = (0.05, 1.0)  # first and longest wait after a failed write

_log = logging.getLogger(__name__)


class _Pending(Struct, frozen=True):
    frame: bytes
    committed: asyncio.Future[None] | None  # awaited by the caller in `sync` mode


class SegmentLog:
    """`router.ports.GroupLog` over framed segments. Create with `open`, end with `close`."""

    def __init__(
        self, section: LogSection, file: SegmentFile, sync_timeout_s: float, on_commit: Callable[[float], None]
    ) -> None:
        self.appended = 0  # groups handed over
        self.dropped = 0  # groups given up when the process ended before the disk came back
        self.bytes_written = 0
        self._on_commit = on_commit
        self._section = section
        self._sync_timeout_s = sync_timeout_s
        self._file = file
        self._redactor = Redactor(section.redact)
        self._queue: deque[_Pending] = deque()
        self._queued_bytes = 0
        self._wake = threading.Condition()
        self._closing = False
        self._full: str | None = None
        self._looked_at = time.monotonic()
        self._failure: str | None = None
        self._thread = threading.Thread(target=self._run, name="group-log", daemon=True)

    @classmethod
    def open(
        cls,
        section: LogSection,
        sync_timeout_s: float = 10.0,
        on_commit: Callable[[float], None] = lambda _: None,
    ) -> SegmentLog:
        """Take a worker directory, recover what a dead writer left, start the writer thread.

        An append in `sync` mode waits at most `sync_timeout_s`. The writer thread tells `on_commit` the seconds that
        each commit spent writing and waiting for the disk. Raises `ConfigError` when the directory cannot be
        created or written, or its list of tombstones is damaged.
        """
        file = SegmentFile(section)
        try:
            file.claim()
            full = file.lack_of_space()
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConfigError(
                f"cannot write the group log in {section.dir}: {reason}: set [log] dir to a writable directory"
            ) from error
        except RecordError as error:
            raise ConfigError(str(error)) from error
        log = cls(section, file, sync_timeout_s, on_commit)
        log._full = full
        log._thread.start()
        return log

    @property
    def queue_length(self) -> int:
        """Groups handed over and not yet on disk."""
        return len(self._queue)

    @property
    def healthy(self) -> str | None:
        """What is wrong, in one line; None when the log takes groups and writes them."""
        if self._closing:
            return "the group log is closed"
        if not self._thread.is_alive():
            return "the writer of the group log has stopped: restart the gateway"
        if len(self._queue) >= self._section.queue_groups:
            return f"{len(self._queue)} groups wait for the disk" + (f": {self._failure}" if self._failure else "")
        return self._full or self._failure

    def admit(self) -> None:
        """Raise `LogUnavailable` when a group could not be kept, or, in `sync` mode, not be written at once."""
        waiting = len(self._queue) >= self._section.queue_groups
        failing = self._section.mode == "sync" and self._failure is not None
        if self._closing or waiting or self._full or failing or not self._thread.is_alive():
            raise LogUnavailable(f"the group log cannot take another group: {self.healthy}")

    async def append(self, record: GroupRecord) -> None:
        """Hand one admitted group over; in `sync` mode, return once it is on disk.

        Raises `RecordError` for a group that cannot be stored in any case, `LogUnavailable` when the log is closed or,
        in `sync` mode, when the disk does not take it in time (it is kept and still written later).
        """
        data = self._framed(record)
        loop = asyncio.get_running_loop()
        committed = loop.create_future() if self._section.mode == "sync" else None
        with self._wake:
            if self._closing:
                raise LogUnavailable("the group log is closed")
            self._queue.append(_Pending(data, committed))
            self._queued_bytes += len(data)
            self.appended += 1
            if len(self._queue) == 1 or self._queued_bytes >= _COMMIT_BYTES:
                self._wake.notify()
        if committed is None:
            return
        try:
            async with asyncio.timeout(self._sync_timeout_s):
                await committed
        except TimeoutError:
            raise LogUnavailable(f"group {record.group_id} is not on disk yet: {self.healthy}") from None

    async def close(self, timeout_s: float = 10.0) -> None:
        """Write what waits and seal the segment. Raises `LogUnavailable` when the disk does not let it in time."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        await asyncio.to_thread(self._thread.join, timeout_s)
        if self._thread.is_alive():
            self.dropped = len(self._queue)
            raise LogUnavailable(f"{self.dropped} group(s) could not be written before the end: {self._failure}")

    def _framed(self, record: GroupRecord) -> bytes:
        try:
            return frame(encode(self._redactor.group(record)))
        except (OverflowError, ValueError, TypeError, RecursionError) as error:
            raise RecordError(f"group {record.group_id} cannot be stored: {error}") from error

    def _run(self) -> None:
        backoff = _BACKOFF_S[0]
        while True:
            self._wait()
            try:
                self._commit()
                done = self._closing and not self._queue
                if done:
                    self._file.close()
            except (OSError, RecordError) as error:
                self._fail(error)
                time.sleep(backoff)
                backoff = min(2 * backoff, _BACKOFF_S[1])
                continue
            if self._failure is not None:
                _log.warning("the group log writes again; no group was lost")
            self._failure, backoff = None, _BACKOFF_S[0]
            if done:
                return

    def _wait(self) -> None:
        """Sleep until there is a batch to commit, or a tick has passed."""
        with self._wake:
            if not self._queue and not self._closing:
                self._wake.wait(_TICK_S)
            if self._queue and self._section.mode == "async":
                self._wake.wait_for(
                    lambda: self._closing or self._queued_bytes >= _COMMIT_BYTES, self._section.commit_ms / 1000
                )

    def _commit(self) -> None:
        if time.monotonic() - self._looked_at >= _TICK_S:
            self._full = self._file.lack_of_space()
            self._looked_at = time.monotonic()
        batch = self._batch()
        if not batch:
            self._file.rotate()
            return
        started = time.perf_counter()
        try:
            self._file.write([pending.frame for pending in batch])
        finally:
            self._on_commit(time.perf_counter() - started)
        self._settle(batch)

    def _batch(self) -> list[_Pending]:
        """The oldest groups that wait, about `_COMMIT_BYTES` of them; they stay queued until they are on disk."""
        batch: list[_Pending] = []
        size = 0
        with self._wake:
            for pending in self._queue:
                batch.append(pending)
                size += len(pending.frame)
                if size >= _COMMIT_BYTES:
                    break
        return batch

    def _settle(self, batch: list[_Pending]) -> None:
        size = sum(len(pending.frame) for pending in batch)
        with self._wake:
            for _ in batch:
                self._queue.popleft()
            self._queued_bytes -= size
        self.bytes_written += size
        for pending in batch:
            if pending.committed is not None:
                with suppress(RuntimeError):  # the caller's event loop is closed: nobody waits
                    pending.committed.get_loop().call_soon_threadsafe(_resolve, pending.committed)

    def _fail(self, error: OSError | RecordError) -> None:
        reason = f"cannot write the group log in {self._section.dir}: {error}"
        if self._failure is None:
            _log.error("%s; %d group(s) are kept until it can be written", reason, len(self._queue))
        self._failure = reason


def _resolve(committed: asyncio.Future[None]) -> None:
    if not committed.done():
        committed.set_result(None)
