"""One segment of the group log: a file of framed records, appended to while open, sealed with its hash.

    header   magic and version, 8 bytes | sequence number of the first record, u64
    frame    length, u32 | CRC-32 of the payload, u32 | payload        (one a record)
    footer   magic, 8 bytes | number of frames, u64 | SHA-256 of all before it, 32 bytes

Integers are little endian. `<first_seq>.open` is being written; `<first_seq>.sealed` changes only as a whole, when a
record is forgotten; `<first_seq>.corrupt` was set aside. A payload is `router.records.encode`'s, or `FORGOTTEN` where a
record was removed: the records after it keep their sequence numbers.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO

from router.errors import RecordError, SegmentCorrupt
from router.record_codec import MAX_RECORD_BYTES

OPEN, SEALED, CORRUPT = ".open", ".sealed", ".corrupt"
FORGOTTEN = b"X"
_MAGIC = b"TTSEG\x00\x00\x01"
_END = b"TTEND\x00\x00\x01"  # read as a length it is over the bound: a footer is never taken for a frame
_HEADER = struct.Struct("<8sQ")
_FRAME = struct.Struct("<II")
_COUNT = struct.Struct("<Q")
_FOOTER = struct.Struct("<8sQ32s")
HEADER_BYTES = _HEADER.size
_MIN_FRAME = _FRAME.size + 1


class Damage(StrEnum):
    """What can be wrong with a segment's bytes."""

    HEADER = "header"
    LENGTH = "length"
    CRC = "crc"
    TRUNCATED = "truncated"
    FOOTER = "footer"
    HASH = "hash"


@dataclass(frozen=True, slots=True)
class Scan:
    """How far the frames of a segment are whole."""

    frames: int
    end: int  # offset after the last whole frame, in bytes
    damage: Damage | None  # why the frames end before the end of the file; None at its end or at a footer


def header(first_seq: int) -> bytes:
    """The bytes a segment starts with."""
    return _HEADER.pack(_MAGIC, first_seq)


def footer(frames: int, before: hashlib._Hash) -> bytes:
    """The bytes that seal a segment of so many frames; `before` is the SHA-256 of the segment so far."""
    start = _END + _COUNT.pack(frames)
    digest = before.copy()
    digest.update(start)
    return start + digest.digest()


def segment_path(directory: Path, first_seq: int, suffix: str) -> Path:
    """The file of the segment whose first record is `first_seq`."""
    return directory / f"{first_seq:020d}{suffix}"


def first_seq(path: Path) -> int:
    """The sequence number in a segment's file name. Raises `SegmentCorrupt` when it has none."""
    try:
        return int(path.stem)
    except ValueError:
        raise SegmentCorrupt(f"{path}: not the name of a segment") from None


def frame(payload: bytes) -> bytes:
    """The framed form of one payload. Raises `RecordError` when it is empty or over `MAX_RECORD_BYTES`."""
    if not 0 < len(payload) <= MAX_RECORD_BYTES:
        raise RecordError(f"a record of {len(payload)} bytes does not fit a segment (1 to {MAX_RECORD_BYTES})")
    return _FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def scan(path: Path) -> Scan:
    """Walk the frames of a segment, open or sealed, as far as they are whole. Raises `OSError`."""
    frames = 0
    end = HEADER_BYTES
    with _open(path) as file:
        if not _header_fits(file, path):
            return Scan(0, 0, Damage.HEADER)
        while isinstance(payload := _next_payload(file), bytes):
            frames += 1
            end += _FRAME.size + len(payload)
    return Scan(frames, end, payload)


def payloads(path: Path, stop: int | None = None, skip: int = 0) -> Iterator[bytes]:
    """The payloads of the whole frames of a segment up to byte offset `stop`, one in memory at a time.

    The first `skip` frames are stepped over, unread.
    """
    with _open(path) as file:
        if not _header_fits(file, path):
            return
        for _ in range(skip):
            if not _step_over(file):
                return
        position = file.tell()
        while (stop is None or position < stop) and isinstance(payload := _next_payload(file), bytes):
            position += _FRAME.size + len(payload)
            yield payload


def _open(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except FileNotFoundError:
        if path.suffix != OPEN:
            raise
        return path.with_suffix(SEALED).open("rb")  # sealed since it was listed


def _header_fits(file: IO[bytes], path: Path) -> bool:
    return file.read(HEADER_BYTES) == header(first_seq(path))


def _step_over(file: IO[bytes]) -> bool:
    """Go behind the next frame, if there is one."""
    head = file.read(_FRAME.size)
    if len(head) < _FRAME.size or not 0 < (length := _FRAME.unpack(head)[0]) <= MAX_RECORD_BYTES:
        return False
    file.seek(length, os.SEEK_CUR)
    return True


def _next_payload(file: IO[bytes]) -> bytes | Damage | None:
    """The next payload; None at the end of the file or at a footer; else what is wrong here."""
    head = file.read(_FRAME.size)
    if not head or head == _END:
        return None
    if len(head) < _FRAME.size:
        return Damage.TRUNCATED
    length, crc = _FRAME.unpack(head)
    if not 0 < length <= MAX_RECORD_BYTES:
        return Damage.LENGTH
    payload = file.read(length)
    if len(payload) < length:
        return Damage.TRUNCATED
    return payload if zlib.crc32(payload) == crc else Damage.CRC


def check_seal(path: Path) -> int:
    """The number of frames of a sealed segment that holds what it was sealed with, else raises `SegmentCorrupt`."""
    with path.open("rb") as file:
        if not _header_fits(file, path):
            raise SegmentCorrupt(f"{path}: damaged header")
        body = file.seek(0, os.SEEK_END) - _FOOTER.size
        frames, digest = _footer(file, path, body)
        file.seek(0)
        actual = hashlib.sha256()
        rest = body + _FOOTER.size - len(digest)
        while rest > 0 and (block := file.read(min(rest, 1 << 20))):
            actual.update(block)
            rest -= len(block)
    if actual.digest() != digest:
        raise SegmentCorrupt(f"{path}: its SHA-256 is not the one it was sealed with")
    return frames


def _footer(file: IO[bytes], path: Path, offset: int) -> tuple[int, bytes]:
    if offset >= HEADER_BYTES:
        file.seek(offset)
        magic, frames, digest = _FOOTER.unpack(file.read(_FOOTER.size))
        if magic == _END:
            return frames, digest
    raise SegmentCorrupt(f"{path}: truncated, its footer is missing")


def sealed_with(path: Path) -> bytes:
    """The SHA-256 that a sealed segment says it has. Raises `SegmentCorrupt` when it has no footer."""
    with path.open("rb") as file:
        return _footer(file, path, file.seek(0, os.SEEK_END) - _FOOTER.size)[1]


def next_seq_after(path: Path) -> int:
    """A sequence number that no record of this segment has, in whatever state the segment is."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        with suppress(SegmentCorrupt):
            return first_seq(path) + _footer(file, path, size - _FOOTER.size)[0]
    return first_seq(path) + size // _MIN_FRAME + 1
