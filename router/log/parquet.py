"""Groups in a Parquet file (zstandard): one row each, sorted by position, in row groups of about 16 MB.

The columns are what groups are chosen and counted by. `record` is the group itself, the payload of its frame without
compression, so that a reader gets the very bytes that were logged, and a field added to the record needs no new column.
Only this module needs pyarrow; who reads or writes no Parquet file does without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from router.enums import Purpose
from router.errors import SegmentCorrupt
from router.records import GroupColumns, GroupHead

ROW_GROUP_BYTES = 16 * 1024 * 1024
_PLACE = ("first_seq", "seq")
_HEAD = tuple(name for name in GroupHead.__struct_fields__ if name != "schema_version")
_COLUMNS = (*_PLACE, *(name for name in GroupColumns.__struct_fields__ if name != "schema_version"))
_TYPES = {
    **dict.fromkeys((*_PLACE, "prompt_tokens", "completion_tokens"), pa.int64()),
    **dict.fromkeys(("train_consent", "heldout", "audit"), pa.bool_()),
    **dict.fromkeys(("created_at", "cost_usd"), pa.float64()),
}
_SCHEMA = pa.schema([*((name, _TYPES.get(name, pa.string())) for name in _COLUMNS), ("record", pa.binary())])


@dataclass(frozen=True, slots=True)
class Row:
    """Where a row's record was, what is known of it, and the record on demand: it is read at the first call."""

    first_seq: int
    seq: int
    head: GroupHead
    payload: Callable[[], bytes]


class ParquetSink:
    """Writes one file, a row group in memory at a time. Close it before the file."""

    def __init__(self, file: IO[bytes]) -> None:
        self.rows, self.oldest = 0, float("inf")
        by_value = [field.name for field in _SCHEMA if field.type == pa.string() and field.name != "group_id"]
        self._writer = pq.ParquetWriter(file, _SCHEMA, compression="zstd", use_dictionary=by_value)
        self._pending: dict[str, list[Any]] = {name: [] for name in _SCHEMA.names}
        self._bytes = 0

    def add(self, first_seq: int, seq: int, columns: GroupColumns, payload: bytes) -> None:
        """Add one record; `payload` is its stored form, uncompressed."""
        known = (getattr(columns, name) for name in _COLUMNS[len(_PLACE) :])
        for column, value in zip(self._pending.values(), (first_seq, seq, *known, payload), strict=True):
            column.append(value)
        self._bytes += len(payload)
        if self._bytes >= ROW_GROUP_BYTES:
            self._flush()

    def add_table(self, table: pa.Table) -> None:
        """Add the rows of another file as they are."""
        if table.num_rows:
            table = _of_schema(table)
            self.rows += table.num_rows
            self.oldest = min(self.oldest, *table["created_at"].to_pylist())
            self._writer.write_table(table)

    def close(self) -> None:
        """Write what is left."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        self.add_table(pa.table(self._pending, schema=_SCHEMA))
        self._pending = {name: [] for name in _SCHEMA.names}
        self._bytes = 0


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a file, in order. The records of a row group are read only once one of them is asked for.

    Raises `SegmentCorrupt`, `FileNotFoundError`.
    """
    with _opened(path) as file:
        for number in range(file.num_row_groups):
            records = _Records(path, file, number)
            known = [name for name in (*_PLACE, *_HEAD) if name in file.schema_arrow.names]
            places = file.read_row_group(number, known, use_threads=False).to_pylist()
            for index, values in enumerate(places):
                first_seq, seq = (values.pop(name) for name in _PLACE)
                yield Row(first_seq, seq, _head(values), partial(records.at, index))


def record_at(path: Path, seq: int) -> bytes:
    """The record of this sequence number, empty when the file has none. Raises as `read_rows`."""
    with path.open("rb") as source, _damage_of(path):
        found = pq.read_table(source, columns=["record"], filters=[("seq", "=", seq)], use_threads=False)["record"]
    return b"".join(found.to_pylist()[:1])


def keep_rows(path: Path, sink: ParquetSink, keep: Callable[[GroupHead], bool]) -> int:
    """Copy the rows that `keep` names; returns how many were left out. Raises `SegmentCorrupt`, `FileNotFoundError`."""
    left_out = 0
    with _opened(path) as file:
        for number in range(file.num_row_groups):
            table = file.read_row_group(number, use_threads=False)
            mask = [keep(_head(values)) for values in _of_schema(table).select(_HEAD).to_pylist()]
            sink.add_table(table.filter(pa.array(mask, pa.bool_())))
            left_out += mask.count(False)
    return left_out


class _Records:
    """The records of one row group, read when the first is asked for."""

    def __init__(self, path: Path, file: pq.ParquetFile, number: int) -> None:
        self._path, self._file, self._number = path, file, number
        self._column: pa.BinaryArray | None = None

    def at(self, index: int) -> bytes:
        if self._column is None:
            with _damage_of(self._path):
                table = self._file.read_row_group(self._number, ["record"], use_threads=False)
                self._column = table["record"].combine_chunks()
        found: bytes = self._column[index].as_py()
        return found


def _of_schema(table: pa.Table) -> pa.Table:
    """The table with the columns that came after it was written, empty."""
    for name in (each for each in _SCHEMA.names if each not in table.column_names):
        table = table.append_column(_SCHEMA.field(name), pa.nulls(table.num_rows, _SCHEMA.field(name).type))
    return table.select(_SCHEMA.names)


def _head(values: dict[str, Any]) -> GroupHead:
    return GroupHead(**(values | {"purpose": Purpose(values["purpose"])}))


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    with path.open("rb") as source, _damage_of(path), pq.ParquetFile(source, pre_buffer=False) as file:
        yield file


@contextmanager
def _damage_of(path: Path) -> Iterator[None]:
    try:
        yield
    except pa.ArrowException as error:
        raise SegmentCorrupt(f"{path}: not a Parquet file of groups: {error}") from error
