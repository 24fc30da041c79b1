"""The files that hold the log's records: segments, and the Parquet files that older segments were compacted into."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from router.errors import LogUnavailable, SegmentCorrupt
from router.log.manifest import PARQUET_DIR, CompactedSegment, Manifest, SegmentKey
from router.log.segments import CORRUPT, FORGOTTEN, OPEN, SEALED, check_seal, first_seq, payloads
from router.record_codec import decode_head, uncompressed
from router.records import GroupHead

if TYPE_CHECKING:
    from types import ModuleType

    from router.log.parquet import Row

PARQUET = ".parquet"


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Where a record is. It keeps its position for ever, whatever is compacted or forgotten around it."""

    worker: str
    seq: int


@dataclass(frozen=True, slots=True)
class Stored:
    """A record where it is stored. Both calls read it; `head` raises `RecordError` when it cannot be decoded."""

    path: Path
    position: Position
    first_seq: int  # of its segment
    head: Callable[[], GroupHead]
    payload: Callable[[], bytes]
    forgotten: bool = False  # only its mark is left


@dataclass(frozen=True, slots=True)
class Part:
    """One file: a segment, or a Parquet file of several segments of a worker."""

    path: Path
    worker: str
    first_seq: int
    compacted: tuple[CompactedSegment, ...] = ()  # none: it is a segment itself
    sha256: bytes = b""  # of a Parquet file

    @property
    def keys(self) -> frozenset[SegmentKey]:
        """The segments whose records it holds."""
        return frozenset(each.key for each in self.compacted) or frozenset([(self.worker, self.first_seq)])

    def check(self) -> None:
        """Raise `SegmentCorrupt` when it is not what was sealed or compacted, `FileNotFoundError` when it has moved."""
        if self.compacted:
            self._check_parquet()
        elif self.path.suffix == SEALED:
            check_seal(self.path)

    def stored(self, skip: Set[SegmentKey] = frozenset()) -> Iterator[Stored]:
        """Its records but those of the segments in `skip`, in order.

        Raises `LogUnavailable` for a Parquet file where pyarrow is missing, `FileNotFoundError`.
        """
        if not self.compacted:
            for seq, payload in enumerate(payloads(self.path), self.first_seq):
                yield _of_payload(self, seq, payload)
            return
        for row in parquet_module().read_rows(self.path):
            if (self.worker, row.first_seq) not in skip:
                yield _of_row(self, row)

    def _check_parquet(self) -> None:
        try:
            with self.path.open("rb") as file:
                found = hashlib.file_digest(file, hashlib.sha256).digest()
        except FileNotFoundError:
            named = {each.name for each in Manifest(self.path.parents[1]).files()}
            if self.path.name in named:
                raise SegmentCorrupt(f"{self.path}: missing: restore it from a backup") from None
            raise  # rewritten under another name since it was listed
        if found != self.sha256:
            raise SegmentCorrupt(f"{self.path}: its SHA-256 is not the one it was written with")


def worker_dirs(log_dir: Path) -> list[Path]:
    """The workers' directories, by name."""
    return sorted((path for path in log_dir.glob("w*") if path.is_dir()), key=lambda path: _order(path.name))


def segment_files(worker: Path) -> list[Path]:
    """The segments in a worker's directory, in whatever state, by sequence."""
    found = (path for path in worker.iterdir() if path.suffix in (OPEN, SEALED, CORRUPT) and path.stem.isdigit())
    return sorted(found)


def parts(log_dir: Path, *suffixes: str) -> list[Part]:
    """The files with these suffixes, segments and Parquet files, in order of worker and sequence.

    A segment that was compacted is no part any more, whether its file is still there or not. Without `PARQUET` among
    the suffixes it is only left out. Raises `RecordError` when the manifest is damaged.
    """
    # The segments first: one that is compacted in between is then found in the manifest, never in neither.
    listed = [path for worker in worker_dirs(log_dir) for path in segment_files(worker) if path.suffix in suffixes]
    manifest = Manifest(log_dir)
    compacted = manifest.segments()
    keys = {each.key for each in compacted}
    found = [Part(path, path.parent.name, first_seq(path)) for path in listed]
    found = [part for part in found if (part.worker, part.first_seq) not in keys or part.path.suffix == CORRUPT]
    by_file: dict[str, list[CompactedSegment]] = {}
    for segment in compacted:
        if segment.file is not None:
            by_file.setdefault(segment.file, []).append(segment)
    for file in manifest.files():
        path = log_dir / PARQUET_DIR / file.name
        if not path.exists() and path.with_suffix(CORRUPT).exists():
            path = path.with_suffix(CORRUPT)
        if path.suffix in suffixes:
            held = tuple(by_file[file.name])
            found.append(Part(path, held[0].worker, held[0].first_seq, held, file.sha256))
    return sorted(found, key=lambda part: (*_order(part.worker), part.first_seq))


def parquet_module() -> ModuleType:
    """`router.log.parquet`. Raises `LogUnavailable` where pyarrow is missing."""
    try:
        from router.log import parquet  # noqa: PLC0415  # serving does without pyarrow
    except ModuleNotFoundError as error:
        if error.name != "pyarrow":
            raise
        raise LogUnavailable("Parquet files need pyarrow, and it is not here: install the extra `train`") from None
    return parquet


class _Payload:
    """Decompressed once, however often it is decoded."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload

    def whole(self) -> bytes:
        self._payload = uncompressed(self._payload)
        return self._payload

    def head(self) -> GroupHead:
        return decode_head(self.whole())


def _of_payload(part: Part, seq: int, payload: bytes) -> Stored:
    position, once = Position(part.worker, seq), _Payload(payload)
    return Stored(part.path, position, part.first_seq, once.head, once.whole, payload == FORGOTTEN)


def _of_row(part: Part, row: Row) -> Stored:
    return Stored(part.path, Position(part.worker, row.seq), row.first_seq, lambda: row.head, row.payload)


def _order(worker: str) -> tuple[int, str]:
    return len(worker), worker
