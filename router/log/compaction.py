"""Sealed segments into Parquet files, and what is older than it may be out of them.

A file is written under a temporary name, made durable, renamed, and named in the manifest by one transaction; only then
are its segments removed. Until the transaction the segments are the log, from then on the file is: a crash between any
two steps leaves every group in the log once, and the next run removes what is left over.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from router.errors import LogUnavailable, RecordError, SegmentCorrupt
from router.fs import drop_leftovers, fsync_dir, locked, replacing
from router.log.groups import segments
from router.log.index import GroupIndex
from router.log.labels import forget_labels
from router.log.manifest import PARQUET_DIR, CompactedFile, CompactedSegment, Manifest
from router.log.parts import PARQUET, Part, parquet_module, parts
from router.log.segments import FORGOTTEN, SEALED, check_seal, first_seq, payloads, sealed_with, segment_path
from router.log.tombstones import load_tombstones
from router.record_codec import decode_columns, uncompressed
from router.records import GroupHead

if TYPE_CHECKING:
    from router.log.parquet import ParquetSink

REWRITE_LOCK = "forget.lock"  # held by whoever removes or replaces files that readers read
FILE_BYTES = 256 * 1024 * 1024  # of the segments that go into one file


@dataclass(slots=True)
class Compacted:
    """What `compact` did."""

    segments: int = 0
    files: int = 0
    groups: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    removed: int = 0  # groups and labels that were older than they may be, or forgotten
    left: list[str] = field(default_factory=list)  # one line for each segment that stays as it is


def compact(
    log_dir: Path,
    *,
    min_free_bytes: int,
    oldest: float = float("-inf"),
    advance: Callable[[Path], None] = lambda _: None,
) -> Compacted:
    """Move every sealed segment into Parquet files, and drop groups and labels made before `oldest` (Unix time).

    A damaged segment, and one with a record that cannot be read, stays as it is and is named. `advance` is told each
    segment and file that is done. Raises `LogUnavailable` where pyarrow is missing, or before a file is written that
    would leave less than `min_free_bytes` free; `RecordError` when the manifest or the list of tombstones is damaged;
    `OSError`. What was done until then stays done.
    """
    parquet_module()
    done = Compacted()
    with locked(log_dir / REWRITE_LOCK):
        tidy(log_dir)
        tombstones = load_tombstones(log_dir)
        for batch in _batches(log_dir):
            _room(log_dir, sum(path.stat().st_size for path in batch), min_free_bytes)
            _compact(log_dir, batch, lambda head: not (head.created_at < oldest or tombstones.covers(head)), done)
            for path in batch:
                advance(path)
        done.removed += forget_labels(log_dir, lambda label: label.at < oldest)
        aged = {file.name for file in Manifest(log_dir).files() if file.oldest < oldest}
        for part in parts(log_dir, PARQUET):
            if part.path.name in aged:
                part.check()
                _room(log_dir, part.path.stat().st_size, min_free_bytes)
                done.removed += thin_out(log_dir, part, lambda head: head.created_at < oldest)
            advance(part.path)
        if (index := GroupIndex(log_dir)).exists:
            index.drop_older(oldest)
    return done


def tidy(log_dir: Path) -> None:
    """Remove what a crash left: segments that were compacted, Parquet files that no transaction named.

    The caller holds `REWRITE_LOCK`.
    """
    folder, manifest = log_dir / PARQUET_DIR, Manifest(log_dir)
    for segment in manifest.segments():
        path = segment_path(log_dir / segment.worker, segment.first_seq, SEALED)
        if path.exists() and sealed_with(path) == segment.sha256:
            path.unlink()
    if folder.is_dir():
        drop_leftovers(folder, f"*{PARQUET}")
        named = {file.name for file in manifest.files()}
        for path in folder.glob(f"*{PARQUET}"):
            if path.name not in named:
                path.unlink()
        fsync_dir(folder)


def thin_out(log_dir: Path, part: Part, drop: Callable[[GroupHead], bool]) -> int:
    """Write a Parquet file anew without the groups that `drop` names; returns how many there were.

    The caller holds `REWRITE_LOCK` and has checked the file. After a crash the old file is in the log or the new one.
    """
    parquet = parquet_module()
    if not any(drop(row.head) for row in parquet.read_rows(part.path)):
        return 0
    stem, number = part.path.stem.rsplit(".", 1)
    path = part.path.with_name(f"{stem}.{int(number) + 1}{PARQUET}")
    with replacing(path) as target, closing(parquet.ParquetSink(target)) as sink:
        removed: int = parquet.keep_rows(part.path, sink, lambda head: not drop(head))
    file = _written(path, sink)
    Manifest(log_dir).replace(part.path.name, file)
    part.path.unlink()
    if file is None:
        path.unlink()
    fsync_dir(path.parent)
    return removed


def _batches(log_dir: Path) -> Iterator[list[Path]]:
    """Sealed segments of one worker each, of about `FILE_BYTES` together."""
    batch: list[Path] = []
    size = 0
    for path in segments(log_dir, SEALED):
        if batch and (path.parent != batch[0].parent or size >= FILE_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(path)
        size += path.stat().st_size
    if batch:
        yield batch


def _compact(log_dir: Path, batch: Sequence[Path], keep: Callable[[GroupHead], bool], done: Compacted) -> None:
    """Make one file of the segments that are sound."""
    folder, worker = log_dir / PARQUET_DIR, batch[0].parent.name
    if not folder.is_dir():
        folder.mkdir(mode=0o700)
        fsync_dir(log_dir)
    path = folder / f"{worker}-{batch[0].stem}.0{PARQUET}"
    sound = [segment for segment in batch if _seal_holds(segment, done)]
    while sound:
        try:
            with replacing(path) as target, closing(parquet_module().ParquetSink(target)) as sink:
                added = [_add(sink, segment, keep) for segment in sound]
            break
        except _Unreadable as error:
            sound.remove(error.segment)
            done.left.append(f"{error.segment}: stays a segment: {error}")
    else:
        return
    file = _written(path, sink)
    Manifest(log_dir).add((replace(each, file=file.name if file else None) for each, _ in added), file)
    done.bytes_before += sum(segment.stat().st_size for segment in sound)
    done.bytes_after += path.stat().st_size if file else 0
    for gone in [*sound, *([] if file else [path])]:
        gone.unlink()
        fsync_dir(gone.parent)
    done.segments += len(sound)
    done.files += file is not None
    done.groups += sink.rows
    done.removed += sum(dropped for _, dropped in added)


class _Unreadable(Exception):
    def __init__(self, segment: Path, reason: RecordError) -> None:
        super().__init__(str(reason))
        self.segment = segment


def _add(sink: ParquetSink, segment: Path, keep: Callable[[GroupHead], bool]) -> tuple[CompactedSegment, int]:
    """The rows of a segment into the sink; the segment, and how many groups were not kept. Raises `_Unreadable`."""
    first, frames, dropped = first_seq(segment), 0, 0
    for seq, payload in enumerate(payloads(segment), first):
        frames += 1
        if payload == FORGOTTEN:
            continue
        try:
            columns = decode_columns(payload)
            if keep(columns):
                sink.add(first, seq, columns, uncompressed(payload))
            else:
                dropped += 1
        except RecordError as error:
            raise _Unreadable(segment, error) from error
    return CompactedSegment(segment.parent.name, first, frames, sealed_with(segment), None), dropped


def _seal_holds(segment: Path, done: Compacted) -> bool:
    try:
        check_seal(segment)
    except SegmentCorrupt as error:
        done.left.append(str(error))
        return False
    return True


def _written(path: Path, sink: ParquetSink) -> CompactedFile | None:
    """What the manifest says of a file that was just written; None when no row is in it."""
    if not sink.rows:
        return None
    with path.open("rb") as file:
        return CompactedFile(path.name, hashlib.file_digest(file, hashlib.sha256).digest(), sink.rows, sink.oldest)


def _room(log_dir: Path, size: int, min_free_bytes: int) -> None:
    """Raise `LogUnavailable` unless a file of `size` bytes leaves `min_free_bytes` free."""
    disk = os.statvfs(log_dir)
    free = disk.f_bavail * disk.f_frsize
    if free - size < min_free_bytes:
        raise LogUnavailable(
            f"{free} bytes are free in {log_dir}, compaction needs {size} for now and [log] min_free_bytes asks for "
            f"{min_free_bytes}: free some space"
        )
