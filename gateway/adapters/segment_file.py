"""One process's place in the group log: a worker directory held by a lock, the segment being written, its rotation."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from router.log.groups import WorkerDir, claim_worker, recover_abandoned
from router.log.tombstones import load_tombstones, sealing
from router.log.writer import SegmentWriter
from router.settings import LogSection

_log = logging.getLogger(__name__)


class SegmentFile:
    """Writes batches of frames into segments. Every method may raise `OSError`: call it again, nothing is half done."""

    def __init__(self, section: LogSection) -> None:
        self._section = section
        self._worker: WorkerDir | None = None
        self._writer: SegmentWriter | None = None
        self._opened_at = 0.0
        self._next_seq = 0

    def claim(self) -> None:
        """Take a worker directory; seal what dead writers left, and say what that lost."""
        self._section.dir.mkdir(parents=True, exist_ok=True)
        for found in recover_abandoned(self._section.dir):
            if found.bytes_dropped:
                _log.warning("recovered %s: %d bytes of a torn tail dropped", found.path, found.bytes_dropped)
        self._worker = claim_worker(self._section.dir)
        self._next_seq = self._worker.next_seq()

    def write(self, frames: Sequence[bytes]) -> None:
        """Put frames on disk, in a new segment when the current one is full or old; all of them or none."""
        self.rotate()
        with self._starting_over_when_deleted():
            if self._writer is None:
                if self._worker is None:
                    self.claim()
                assert self._worker is not None
                self._writer = SegmentWriter(self._worker.path, self._next_seq)
                self._opened_at = time.monotonic()
            self._writer.append(frames)

    def rotate(self) -> None:
        """Seal the segment when it has reached its size or age."""
        if self._writer is not None and (
            self._writer.size >= self._section.segment_bytes
            or time.monotonic() - self._opened_at >= self._section.segment_s
        ):
            self.seal()

    def seal(self) -> None:
        """Seal the segment being written, if there is one, without the groups forgotten meanwhile."""
        if self._writer is None:
            return
        with self._starting_over_when_deleted(), sealing(self._section.dir):
            tombstones = load_tombstones(self._section.dir)
            self._writer.seal(tombstones.covers_payload if tombstones else None)
            self._next_seq = self._writer.next_seq
            self._writer = None

    def close(self) -> None:
        """Seal the segment and let the worker directory go."""
        self.seal()
        if self._worker is not None:
            self._worker.release()
            self._worker = None

    def lack_of_space(self) -> str | None:
        """One line when the disk has less than `min_free_bytes` left, else None."""
        disk = os.statvfs(self._section.dir)
        free = disk.f_bavail * disk.f_frsize
        if free >= self._section.min_free_bytes:
            return None
        return (
            f"{free} bytes are free in {self._section.dir}, [log] min_free_bytes asks for "
            f"{self._section.min_free_bytes}: free some space"
        )

    @contextmanager
    def _starting_over_when_deleted(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:  # somebody removed the segment or its directory: claim a fresh one at the next call
            if self._writer is not None:
                self._writer.abandon()
                self._writer = None
            if self._worker is not None:
                self._worker.release()
                self._worker = None
            raise
