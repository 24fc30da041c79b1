"""Writing, sealing, recovering and rewriting one segment (`router.log.segments`); a crash at any step loses nothing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from router.fs import fsync_dir, replacing
from router.log.segments import (
    CORRUPT,
    FORGOTTEN,
    HEADER_BYTES,
    OPEN,
    SEALED,
    Damage,
    first_seq,
    footer,
    frame,
    header,
    payloads,
    scan,
    segment_path,
)

Forget = Callable[[bytes], bool]  # whether the record of this payload was forgotten


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was saved of a segment whose writer died."""

    path: Path | None  # the sealed or set aside segment; None when nothing was worth keeping
    records: int
    bytes_dropped: int = 0
    forgotten: int = 0


class SegmentWriter:
    """Writes one open segment. After an `OSError` nothing of the failed call counts as written: call it again."""

    def __init__(self, directory: Path, first_seq: int) -> None:
        self.first_seq = first_seq
        self.path = segment_path(directory, first_seq, OPEN)
        self.frames = 0
        start = header(first_seq)
        self._hash = hashlib.sha256(start)
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            _pwrite_all(self._fd, start, 0)
            self.size = len(start)
            fsync_dir(directory)
        except OSError:
            self.abandon()
            self.path.unlink(missing_ok=True)
            raise

    @property
    def next_seq(self) -> int:
        """The sequence number of the next record."""
        return self.first_seq + self.frames

    def append(self, frames: Sequence[bytes]) -> None:
        """Write whole frames behind the last committed one and wait until they are on disk."""
        data = b"".join(frames)
        try:
            if os.fstat(self._fd).st_nlink == 0:
                raise FileNotFoundError(f"{self.path} was deleted while it was written")
            _pwrite_all(self._fd, data, self.size)
            os.fdatasync(self._fd)
        except OSError:
            self._drop_tail()
            raise
        self._hash.update(data)
        self.size += len(data)
        self.frames += len(frames)

    def seal(self, forget: Forget | None = None) -> Path | None:
        """Close the segment with its hash and rename it; without the records that `forget` names.

        It is on disk when this returns. None when nothing was in it.
        """
        if forget is not None or self.frames == 0:
            self.abandon()
            return recover(self.path, forget).path
        if self.path.exists():  # a repeated call may find it renamed already
            try:
                _pwrite_all(self._fd, footer(self.frames, self._hash), self.size)
                os.fsync(self._fd)
            except OSError:
                self._drop_tail()
                raise
        sealed = _rename(self.path, SEALED)
        self.abandon()
        return sealed

    def abandon(self) -> None:
        """Close the file as it is; what was committed stays for `recover`."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _drop_tail(self) -> None:
        # When even this fails, the retry overwrites the same bytes, or recovery finds the torn tail by its CRC.
        with suppress(OSError):
            os.ftruncate(self._fd, self.size)


def recover(path: Path, forget: Forget | None = None) -> Recovered:
    """Seal the open segment of a writer that died, up to its first frame that is not whole, less what `forget` names.

    One that does not begin like a segment is set aside. Raises `OSError`; calling again goes on where it stopped.
    """
    if not path.exists():  # an earlier call got as far as the rename
        return Recovered(_rename(path, SEALED), scan(path).frames)
    found, size = scan(path), path.stat().st_size
    if found.damage is Damage.HEADER and size > HEADER_BYTES:
        return Recovered(_rename(path, CORRUPT), 0, size)
    if found.frames == 0:
        path.unlink()
        fsync_dir(path.parent)
        return Recovered(None, 0, max(0, size - HEADER_BYTES) if found.damage else 0)
    os.truncate(path, found.end)
    forgotten = rewrite(path, forget) if forget is not None else 0
    with path.open("r+b") as file:
        digest = hashlib.file_digest(file, hashlib.sha256)
        file.write(footer(found.frames, digest))
        file.flush()
        os.fsync(file.fileno())
    dropped = size - found.end if found.damage else 0
    return Recovered(_rename(path, SEALED), found.frames, dropped, forgotten)


def rewrite(path: Path, forget: Forget) -> int:
    """Put `FORGOTTEN` in place of every payload that `forget` names; returns how many there were.

    Works on a sealed segment (the hash is made anew) and on an open one that nobody writes. The file is replaced by
    rename: a crash leaves the old content or the new one. Frames that are not whole are left out.
    """
    if not any(payload != FORGOTTEN and forget(payload) for payload in payloads(path)):
        return 0
    removed = frames = 0
    start = header(first_seq(path))
    digest = hashlib.sha256(start)
    with replacing(path) as file:
        file.write(start)
        for payload in payloads(path):
            gone = payload != FORGOTTEN and forget(payload)
            data = frame(FORGOTTEN if gone else payload)
            file.write(data)
            digest.update(data)
            removed += gone
            frames += 1
        if path.suffix == SEALED:
            file.write(footer(frames, digest))
    return removed


def quarantine(path: Path) -> Path:
    """Set a damaged segment aside as `.corrupt`; readers pass it by from then on."""
    return _rename(path, CORRUPT)


def _rename(path: Path, suffix: str) -> Path:
    target = path.with_suffix(suffix)
    if path.exists() or not target.exists():
        path.rename(target)
    fsync_dir(path.parent)
    return target


def _pwrite_all(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written
