"""Compaction, cut off at any step, on damaged files, on a full disk, twice at once: nothing is lost or doubled."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from router.errors import LogUnavailable, RecordError, SegmentCorrupt
from router.log.audit import audit
from router.log.forget import forget
from router.log.groups import OnCorrupt, Tally, segments
from router.log.manifest import MANIFEST_FILE, Manifest
from router.log.segments import CORRUPT, SEALED
from tests.support.compacting import NAMES, copier, fill, groups, holds_secret, ids, made, parquet_files, run
from tests.support.crash import crash_at_every_step
from tests.support.groups import broken
from tests.support.training_log import write_log


@pytest.fixture
def log_dir(tmp_path: Path) -> Path:
    fill(tmp_path / "log")
    return tmp_path / "log"


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
    damaged.write_bytes(broken(damaged))
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
