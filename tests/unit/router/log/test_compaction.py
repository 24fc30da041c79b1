"""Compaction: the same groups, each once, whatever step a crash cuts it off at, and whoever reads meanwhile."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from router.errors import LogUnavailable, RecordError, SegmentCorrupt
from router.log.audit import audit
from router.log.compaction import compact
from router.log.forget import forget
from router.log.groups import OnCorrupt, Tally, claim_worker, read_groups, segments
from router.log.index import GroupIndex
from router.log.labels import Label, LabelSource, append_label, read_labels
from router.log.lookups import Page, list_groups, locate, read_group
from router.log.manifest import MANIFEST_FILE, Manifest
from router.log.parts import PARQUET, Position, parts
from router.log.segments import CORRUPT, SEALED, frame
from router.log.writer import SegmentWriter
from router.records import GroupRecord, encode
from tests.support.crash import crash_at_every_step
from tests.support.groups import group
from tests.support.training_log import write_log

SECRET = "the launch code is 0000"
NAMES = ["a1", "b1", "b2", "a2", "a3", "b3"]


def made(name: str, **fields: Any) -> GroupRecord:
    """A group of the tenant that its name begins with; tenant a's hold the secret."""
    known: dict[str, Any] = {"tenant": name[0], "created_at": 1000.0 * int(name[1:])}
    messages = ({"role": "user", "content": SECRET},)
    return group(name, **(known | ({"messages": messages} if name[0] == "a" else {}) | fields))


def fill(log_dir: Path) -> None:
    for first in range(0, len(NAMES), 2):
        write_log(log_dir, [made(name) for name in NAMES[first : first + 2]])


def run(log_dir: Path, **asked: Any) -> Any:
    return compact(log_dir, **({"min_free_bytes": 0} | asked))


def groups(log_dir: Path, **asked: Any) -> list[tuple[Position, GroupRecord]]:
    return list(read_groups(log_dir, include_open=True, **asked))


def ids(log_dir: Path) -> list[str]:
    return [record.group_id for _, record in groups(log_dir)]


def holds_secret(log_dir: Path) -> bool:
    """Whether a tenant's record is in any file, compressed or not."""
    live = {record.tenant for _, record in groups(log_dir)}
    raw = b"".join(path.read_bytes() for path in log_dir.rglob("*") if path.is_file() and path.suffix != PARQUET)
    return "a" in live or SECRET.encode() in raw


def parquet_files(log_dir: Path) -> list[Path]:
    return sorted(log_dir.rglob(f"*{PARQUET}"))


def copier(template: Path, target: Path) -> Callable[[], None]:
    """What makes `target` a fresh copy; far faster than writing and syncing it anew."""

    def copy() -> None:
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(template, target)

    return copy


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


def test_a_crash_at_any_step_loses_and_doubles_nothing_and_a_repeat_ends_it(tmp_path: Path) -> None:
    log_dir, template = tmp_path / "log", tmp_path / "template"
    fill(template)
    seen = set()

    for _ in crash_at_every_step(copier(template, log_dir), lambda: run(log_dir), least=10):
        assert ids(log_dir) == NAMES
        seen.add((bool(Manifest(log_dir).files()), len(list(log_dir.rglob(f"*{SEALED}")))))
        assert audit(log_dir).damage == {}
        run(log_dir)
        assert ids(log_dir) == NAMES
        assert len(parquet_files(log_dir)) == 1 and list(log_dir.rglob(f"*{SEALED}")) == []
        assert [path.name for path in (log_dir / "parquet").iterdir()] == [parquet_files(log_dir)[0].name]
    assert {(False, 3), (True, 3), (True, 2), (True, 1), (True, 0)} <= seen


def test_a_crash_while_forgetting_hides_all_or_nothing_and_a_repeat_removes_it(tmp_path: Path) -> None:
    log_dir, template = tmp_path / "log", tmp_path / "template"
    fill(template)
    segment = segments(template, SEALED)[0]
    content = segment.read_bytes()
    run(template)
    segment.write_bytes(content)  # as a crash leaves it between the transaction and the removal

    for _ in crash_at_every_step(copier(template, log_dir), lambda: forget(log_dir, tenant="a"), least=10):
        assert ids(log_dir) in (["b1", "b2", "b3"], NAMES)
        forget(log_dir, tenant="a")
        assert ids(log_dir) == ["b1", "b2", "b3"]
        assert not holds_secret(log_dir)
        assert len(parquet_files(log_dir)) == 1


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


def test_a_crash_while_the_old_go_leaves_the_young_once(tmp_path: Path) -> None:
    log_dir, template = tmp_path / "log", tmp_path / "template"
    fill(template)
    run(template)

    for _ in crash_at_every_step(copier(template, log_dir), lambda: run(log_dir, oldest=3000.0), least=8):
        assert ids(log_dir) in (NAMES, ["a3", "b3"])
        run(log_dir, oldest=3000.0)
        assert ids(log_dir) == ["a3", "b3"]
        assert len(parquet_files(log_dir)) == 1


def test_without_room_nothing_is_written(log_dir: Path) -> None:
    with pytest.raises(LogUnavailable, match="min_free_bytes asks for"):
        run(log_dir, min_free_bytes=2**62)
    assert not (log_dir / "parquet").exists() and ids(log_dir) == NAMES


def test_a_damaged_segment_stays_and_is_named_and_so_does_one_of_a_newer_schema(log_dir: Path) -> None:
    damaged = segments(log_dir, SEALED)[1]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    newer = write_log(log_dir, [made("n8", schema_version=2)])
    done = run(log_dir)
    assert done.groups == 4
    assert [str(damaged) in done.left[0], str(newer) in done.left[1]] == [True, True]
    assert "upgrade it" in done.left[1]
    assert damaged.exists() and newer.exists()
    tally = Tally()
    assert len(groups(log_dir, on_corrupt=OnCorrupt.SKIP, tally=tally)) == 4
    assert tally.damage == {"segment": 1, "record": 1}


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_file_is_refused_or_set_aside_with_the_reason(log_dir: Path, damage: str) -> None:
    run(log_dir)
    write_log(log_dir, [made("b7")])
    [path] = parquet_files(log_dir)
    data = path.read_bytes()
    half = len(data) // 2
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:half] if damage == "cut" else data[:half] + bytes([data[half] ^ 1]) + data[half + 1 :])
    with pytest.raises(SegmentCorrupt, match=r"missing: restore it|SHA-256 is not the one"):
        groups(log_dir)
    assert audit(log_dir).damage == {"segment": 1}
    assert forget(log_dir, group="b7").unsearchable == (path,)
    tally = Tally()
    assert groups(log_dir, on_corrupt=OnCorrupt.QUARANTINE, tally=tally) == []
    assert tally.damage == {"segment": 1}
    if damage != "gone":
        assert groups(log_dir) == [] and path.with_suffix(CORRUPT).exists()
        assert audit(log_dir).damage == {"quarantined": 1}
        path.with_suffix(CORRUPT).unlink()
        path.write_bytes(data)
        assert ids(log_dir) == NAMES


def test_a_damaged_manifest_stops_every_reader(log_dir: Path) -> None:
    run(log_dir)
    (log_dir / MANIFEST_FILE).write_bytes(b"no database" * 100)
    with pytest.raises(RecordError, match="restore it from a backup"):
        groups(log_dir)
    with sqlite3.connect(log_dir / "other") as db:
        db.execute("PRAGMA user_version = 9")
    db.close()
    (log_dir / "other").replace(log_dir / MANIFEST_FILE)
    with pytest.raises(RecordError, match="version 9"):
        groups(log_dir)


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


def test_who_has_no_pyarrow_reads_segments_and_is_told_of_the_rest(log_dir: Path) -> None:
    def said(script: str) -> str:
        lines = [
            "import sys",
            "sys.modules['pyarrow'] = None",
            "from pathlib import Path",
            f"d = Path({str(log_dir)!r})",
        ]
        done = subprocess.run(
            [sys.executable, "-c", "\n".join([*lines, script])], capture_output=True, text=True, check=False
        )
        return done.stdout + (done.stderr.splitlines() or [""])[-1]

    read = "from router.log.groups import read_groups; print(len(list(read_groups(d))))"
    listed = "from router.log.index import GroupIndex; print(GroupIndex(d).read(lambda _: None))"
    assert said(read) == "6\n"
    assert "install the extra `train`" in said(
        "from router.log.compaction import compact; compact(d, min_free_bytes=0)"
    )
    assert len(segments(log_dir, SEALED)) == 3
    run(log_dir)
    assert "LogUnavailable: Parquet files need pyarrow" in said(read)
    assert said(listed) == "(None, False)\n"


def test_two_at_once_are_one_after_the_other(log_dir: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda _: run(log_dir), range(2)))
    assert sorted(each.files for each in done) == [0, 1]
    assert ids(log_dir) == NAMES


def test_a_disk_that_fills_up_meanwhile_leaves_the_segments(log_dir: Path) -> None:
    """RLIMIT_FSIZE makes the kernel refuse the rest of a file, as a full disk does."""
    lines = ["import resource, sys", "from router.cli import main"]
    lines += ["resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512))"]
    lines += [f"sys.exit(main(['log', 'compact', '--dir', {str(log_dir)!r}]))"]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "cannot change the group log" in done.stderr and "run this again" in done.stderr
    assert len(segments(log_dir, SEALED)) == 3 and list((log_dir / "parquet").iterdir()) == []
    assert ids(log_dir) == NAMES
    assert run(log_dir).groups == 6 and ids(log_dir) == NAMES
