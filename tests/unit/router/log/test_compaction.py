"""Compaction: the same groups, each once, for every reader; what is too old or forgotten is gone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from router.log.audit import audit
from router.log.forget import forget
from router.log.groups import claim_worker, read_groups, segments
from router.log.index import GroupIndex
from router.log.labels import Label, LabelSource, append_label, read_labels
from router.log.lookups import Page, list_groups, locate, read_group
from router.log.parquet import ParquetSink, keep_rows, read_rows
from router.log.parts import PARQUET, Position, parts
from router.log.segments import SEALED, frame
from router.log.writer import SegmentWriter
from router.record_codec import decode_group, encode
from router.records import GroupRecord
from tests.support.compacting import NAMES, fill, groups, ids, made, parquet_files, run
from tests.support.training_log import write_log


@pytest.fixture
def log_dir(tmp_path: Path) -> Path:
    fill(tmp_path / "log")
    return tmp_path / "log"


def test_the_same_groups_at_the_same_positions_in_one_file(log_dir: Path) -> None:
    before = groups(log_dir)
    done = run(log_dir)
    assert groups(log_dir) == before
    assert (done.segments, done.files, done.groups, done.removed, done.left) == (3, 1, 6, 0, [])
    assert segments(log_dir, SEALED) == [] and list(log_dir.rglob(f"*{SEALED}")) == []
    assert len(parquet_files(log_dir)) == 1
    assert audit(log_dir).problems == [] and audit(log_dir).groups == 6


def test_what_comes_later_goes_into_another_file_and_numbers_go_on(log_dir: Path) -> None:
    run(log_dir)
    worker = claim_worker(log_dir)
    assert worker.next_seq() == 6
    worker.release()
    write_log(log_dir, [made("b7")])
    assert ids(log_dir) == [*NAMES, "b7"]
    assert run(log_dir).files == 1
    assert run(log_dir).files == 0
    assert [position.seq for position, _ in groups(log_dir)] == list(range(7))
    assert len(parquet_files(log_dir)) == 2


def test_forgetting_everything_leaves_no_file(log_dir: Path) -> None:
    run(log_dir)
    forget(log_dir, tenant="a")
    [file] = parquet_files(log_dir)
    assert file.name.endswith(f".1{PARQUET}")
    assert forget(log_dir, tenant="b").removed == 3
    assert parquet_files(log_dir) == [] and ids(log_dir) == []
    worker = claim_worker(log_dir)
    assert worker.next_seq() == 6
    worker.release()


def test_what_was_forgotten_before_is_not_compacted(log_dir: Path) -> None:
    forget(log_dir, group="b2")
    assert run(log_dir).groups == 5
    assert ids(log_dir) == [name for name in NAMES if name != "b2"]


def test_what_is_too_old_goes_with_its_labels(log_dir: Path) -> None:
    for at in (1000.0, 9000.0):
        append_label(log_dir, Label(group_id="b1", at=at, source=LabelSource.FEEDBACK, tenant="b", author="k"))
    GroupIndex(log_dir).read(lambda _: None)
    assert run(log_dir).removed == 0
    assert run(log_dir, oldest=2000.0).removed == 3  # a1, b1 and the first label
    assert ids(log_dir) == ["b2", "a2", "a3", "b3"]
    assert [label.at for _, label in read_labels(log_dir) if label] == [9000.0]
    write_log(log_dir, [made("b1"), made("b9")])
    assert run(log_dir, oldest=3000.0).removed == 3
    assert ids(log_dir) == ["a3", "b3", "b9"]
    rows, complete = GroupIndex(log_dir).read(lambda db: list_groups(db, {}, Page()))
    assert complete and {row.id for row in rows} == {"a3", "b3", "b9"}


def test_a_reader_follows_what_is_compacted_and_forgotten_under_it(log_dir: Path) -> None:
    reading: Iterator[tuple[Position, GroupRecord]] = read_groups(log_dir)
    found = [next(reading)[1].group_id]
    run(log_dir)
    found += [next(reading)[1].group_id for _ in range(2)]
    assert found == ["a1", "b1", "b2"]
    forget(log_dir, tenant="a")
    assert [record.group_id for _, record in reading] == ["a2", "a3", "b3"]  # opened before: still whole
    assert ids(log_dir) == ["b1", "b2", "b3"]


def test_the_index_finds_compacted_groups_made_before_or_after(log_dir: Path) -> None:
    def found() -> dict[str, GroupRecord | None]:
        rows, complete = GroupIndex(log_dir).read(lambda db: list_groups(db, {}, Page(100)))
        assert complete
        located = {row.id: GroupIndex(log_dir).read(lambda db, row=row: locate(db, row.id))[0] for row in rows}
        return {name: read_group(log_dir, name, place) for name, place in located.items() if place}

    before = found()
    assert set(before) == set(NAMES) and None not in before.values()
    run(log_dir)
    assert found() == before
    GroupIndex(log_dir)._remove()
    assert found() == before
    forget(log_dir, group="a1")
    assert set(found()) == set(NAMES) - {"a1"}


def test_a_first_index_of_compacted_segments_comes_in_parts(log_dir: Path) -> None:
    run(log_dir)
    index = GroupIndex(log_dir)
    counts = []
    for _ in range(4):
        rows, complete = index.read(lambda db: list_groups(db, {}, Page(100)), budget_s=0)
        counts.append((len(rows), complete))
    assert counts[0] == (2, False) and counts[-1] == (6, True)


def test_a_segment_restored_from_a_backup_is_not_read_twice(log_dir: Path) -> None:
    [first, *_] = segments(log_dir, SEALED)
    backup = first.read_bytes()
    run(log_dir)
    first.write_bytes(backup)
    assert ids(log_dir) == NAMES
    run(log_dir)
    assert not first.exists() and ids(log_dir) == NAMES


def test_workers_have_files_of_their_own_and_open_segments_stay(log_dir: Path) -> None:
    one, two = claim_worker(log_dir), claim_worker(log_dir)
    for worker, name in ((one, "b7"), (two, "b8")):
        writer = SegmentWriter(worker.path, worker.next_seq())
        writer.append([frame(encode(made(name)))])
        if worker is two:
            writer.seal()
        writer.abandon()
    assert run(log_dir).files == 2
    assert [part.worker for part in parts(log_dir, PARQUET)] == ["w0", "w1"]
    assert ids(log_dir) == [*NAMES, "b7", "b8"]
    one.release()
    two.release()


def test_a_file_that_is_older_than_a_column_is_read_and_thinned_out(log_dir: Path) -> None:
    run(log_dir)
    [file] = parquet_files(log_dir)
    table = pq.read_table(file).drop_columns(["replays"])
    old, thinned = log_dir / "old.parquet", log_dir / "thinned.parquet"
    pq.write_table(table, old)
    heads = [row.head for row in read_rows(old)]
    assert [head.group_id for head in heads] == ids(log_dir) and {head.replays for head in heads} == {None}
    with thinned.open("wb") as target, closing(ParquetSink(target)) as sink:
        assert keep_rows(old, sink, lambda head: head.group_id != NAMES[0]) == 1
    assert [decode_group(row.payload()).group_id for row in read_rows(thinned)] == list(NAMES[1:])
