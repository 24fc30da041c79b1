"""The index: what log and labels hold, whatever is appended, sealed, forgotten, damaged or cut off meanwhile."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import msgspec
import pytest

from router.enums import Purpose, Reason, Route, Status
from router.errors import LogUnavailable
from router.log.forget import forget
from router.log.groups import claim_worker, recover_abandoned, segments
from router.log.index import INDEX_FILE, GroupIndex
from router.log.labels import LABEL_FILE, Label, LabelSource, Resolution, append_label
from router.log.lookups import Page, Why, list_groups, list_reviews, locate, read_group
from router.log.segments import SEALED, frame
from router.log.writer import SegmentWriter, quarantine
from router.record_codec import encode
from router.records import GroupRecord
from tests.support.crash import crash_at_every_step
from tests.support.groups import group
from tests.support.training_log import write_log

DECISIVE = {"checks": [{"type": "math", "klass": "decisive"}]}


def ids(log_dir: Path, page: Page | None = None, **where: str) -> list[str]:
    rows, complete = GroupIndex(log_dir).read(lambda db: list_groups(db, where, page or Page(100)))
    assert complete
    return [row.id for row in rows]


def record(log_dir: Path, group_id: str) -> GroupRecord | None:
    located, _ = GroupIndex(log_dir).read(lambda db: locate(db, group_id))
    return located and read_group(log_dir, group_id, located)


def say(log_dir: Path, group_id: str, **fields: Any) -> None:
    known: dict[str, Any] = {"at": 1.0, "source": LabelSource.FEEDBACK, "tenant": "local", "author": "k"}
    append_label(log_dir, Label(group_id=group_id, **(known | fields)))


def test_newest_first_in_pages_and_by_field(tmp_path: Path) -> None:
    write_log(tmp_path, [group("g1"), group("g3", tenant="b", route=Route.VOTE), group("g2", profile="p@1")])
    assert ids(tmp_path) == ["g3", "g2", "g1"]
    assert ids(tmp_path, Page(1)) == ["g3", "g2"]  # one more: there is a next page
    assert ids(tmp_path, Page(5, "g3")) == ["g2", "g1"]
    assert ids(tmp_path, tenant="b", route="vote") == ["g3"] and ids(tmp_path, profile="p@1") == ["g2"]
    assert ids(tmp_path, tenant="' OR 1=1 --") == []
    assert (tmp_path / INDEX_FILE).stat().st_mode & 0o777 == 0o600


def test_it_follows_a_segment_that_is_written_and_sealed(tmp_path: Path) -> None:
    worker = claim_worker(tmp_path)
    writer = SegmentWriter(worker.path, 0)
    for number in range(3):
        writer.append([frame(encode(group(f"g{number}")))])
        assert len(ids(tmp_path)) == number + 1
    with writer.path.open("ab") as file:
        file.write(frame(encode(group("half")))[:-3])  # caught in mid-write
    assert len(ids(tmp_path)) == 3
    writer.abandon()
    worker.release()
    recover_abandoned(tmp_path)
    write_log(tmp_path, [group("h")])
    assert ids(tmp_path) == ["h", "g2", "g1", "g0"]
    assert [found and found.group_id for found in (record(tmp_path, "g1"), record(tmp_path, "h"))] == ["g1", "h"]
    assert record(tmp_path, "half") is None


def test_forgotten_groups_are_gone_from_it_and_the_others_are_still_found(tmp_path: Path) -> None:
    long = ({"role": "user", "content": "x" * 3000},)
    write_log(tmp_path, [group("a1", tenant="agency", messages=long), group("b1"), group("b2")])
    assert len(ids(tmp_path)) == 3
    forget(tmp_path, tenant="agency")
    assert b"agency" not in (tmp_path / INDEX_FILE).read_bytes()
    assert ids(tmp_path) == ["b2", "b1"] and record(tmp_path, "a1") is None
    assert [found and found.group_id for found in (record(tmp_path, "b1"), record(tmp_path, "b2"))] == ["b1", "b2"]


def test_a_segment_sealed_without_what_was_forgotten_while_it_was_open(tmp_path: Path) -> None:
    worker = claim_worker(tmp_path)
    writer = SegmentWriter(worker.path, 0)
    writer.append([frame(encode(group(name, tenant=name[0]))) for name in ("a1", "b1")])
    assert ids(tmp_path) == ["b1", "a1"]
    forget(tmp_path, tenant="a")
    writer.append([frame(encode(group("b2", tenant="b")))])
    assert ids(tmp_path) == ["b2", "b1"]
    writer.abandon()
    worker.release()
    recover_abandoned(tmp_path)
    assert ids(tmp_path) == ["b2", "b1"]
    found = record(tmp_path, "b2")
    assert found is not None and found.group_id == "b2"


def test_a_segment_that_was_set_aside_or_deleted(tmp_path: Path) -> None:
    write_log(tmp_path, [group("g1")])
    second = write_log(tmp_path, [group("g2")])
    assert ids(tmp_path) == ["g2", "g1"]
    quarantine(segments(tmp_path, SEALED)[0])
    located, _ = GroupIndex(tmp_path).read(lambda db: locate(db, "g2"))
    second.unlink()
    assert located is not None and read_group(tmp_path, "g2", located) is None
    assert ids(tmp_path) == []


def test_what_cannot_be_read_is_passed_by(tmp_path: Path) -> None:
    worker = claim_worker(tmp_path)
    writer = SegmentWriter(worker.path, 0)
    writer.append([frame(b"P\xc1"), frame(encode(group("new", schema_version=2))), frame(encode(group("g1")))])
    writer.seal()
    worker.release()
    assert ids(tmp_path) == ["g1"]


@pytest.mark.parametrize("content", [b"", b"not a database", None, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_or_foreign_index_is_made_anew(tmp_path: Path, content: bytes | None) -> None:
    write_log(tmp_path, [group("g1")])
    assert ids(tmp_path) == ["g1"]
    path = tmp_path / INDEX_FILE
    if content is None:
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA user_version = 99")
        db.close()
    else:
        path.write_bytes(content)
    assert ids(tmp_path) == ["g1"]
    path.write_bytes(path.read_bytes()[:5000])
    assert ids(tmp_path) == ["g1"]


def test_a_killed_reader_leaves_nothing_half_done(tmp_path: Path) -> None:
    log_dir = tmp_path / "log"

    def prepare() -> None:
        shutil.rmtree(log_dir, ignore_errors=True)
        log_dir.mkdir()
        write_log(log_dir, [group("g1"), group("g2")])
        say(log_dir, "g1", outcome=Resolution.NOT_SOLVED)

    for _ in crash_at_every_step(prepare, lambda: ids(log_dir), least=1):
        assert ids(log_dir) == ["g2", "g1"] and waiting(log_dir) == {"g1": (Why.DISPUTED,)}


def test_readers_that_are_killed_while_they_make_it(tmp_path: Path) -> None:
    """It holds wherever the kill falls, so that no delay has to hit anything."""
    names = sorted(f"g{number:04}" for number in range(3000))
    for start in range(0, len(names), 500):
        write_log(tmp_path, [group(name) for name in names[start : start + 500]])
    made = GroupIndex(tmp_path)
    for delay_s in (0.005, 0.01, 0.02, 0.03, 0.04, 0.06):
        reader = get_context("fork").Process(target=made.read, args=(lambda _: None, 60.0))
        reader.start()
        reader.join(delay_s)
        reader.kill()
        reader.join()
        say(tmp_path, names[0], rating=5)
    made.read(lambda _: None, budget_s=60.0)
    assert ids(tmp_path, Page(5000)) == names[::-1]
    located, _ = made.read(lambda db: locate(db, names[0]))
    assert located is not None and len(located.labels) == 6


def test_one_that_was_made_in_part_is_made_anew(tmp_path: Path) -> None:
    write_log(tmp_path, [group("g")])
    assert ids(tmp_path) == ["g"]
    with closing(sqlite3.connect(tmp_path / INDEX_FILE)) as db, db:
        db.execute("DELETE FROM read")
    assert ids(tmp_path) == ["g"]


def test_a_first_read_of_a_large_log_comes_in_parts(tmp_path: Path) -> None:
    write_log(tmp_path, [group(f"g{number:04}") for number in range(600)])
    index, seen = GroupIndex(tmp_path), []
    for _ in range(3):
        rows, complete = index.read(lambda db: list_groups(db, {}, Page(1000)), budget_s=0)
        seen.append((len(rows), complete))
    assert seen == [(256, False), (512, False), (600, True)]


def test_a_first_read_of_many_labels_comes_in_parts(tmp_path: Path) -> None:
    write_log(tmp_path, [group("g")])
    line = encode_label(Label(group_id="g", at=1.0, source=LabelSource.FEEDBACK, tenant="local", author="k", score=0))
    (tmp_path / LABEL_FILE).write_bytes(line * 600)
    index, seen = GroupIndex(tmp_path), []
    for _ in range(3):
        seen.append(index.read(lambda db: db.execute("SELECT count(*) FROM label").fetchone()[0], budget_s=0))
    assert seen == [(256, False), (512, False), (600, True)]


def encode_label(label: Label) -> bytes:
    return msgspec.json.encode(label) + b"\n"


def test_readers_at_the_same_time(tmp_path: Path) -> None:
    write_log(tmp_path, [group(f"g{number:03}") for number in range(200)])
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(len(ids(tmp_path, Page(999))))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [200] * 6


def test_a_directory_that_refuses_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(LogUnavailable, match="cannot be used"):
        GroupIndex(tmp_path / "gone").read(lambda _: None)


# Reviews


def waiting(log_dir: Path, *, always: tuple[str, ...] = (), unverified: tuple[str, ...] = ()) -> dict[str, Any]:
    rows, _ = GroupIndex(log_dir).read(lambda db: list_reviews(db, always, unverified, Page(100)))
    return {row.group.id: row.why for row in rows}


def test_a_profile_asks_for_reviews(tmp_path: Path) -> None:
    unverified = {"status": Status.UNVERIFIED, "reason": Reason.NO_ORACLE}
    write_log(
        tmp_path,
        [
            group("g1", profile="a@1"),
            group("g2", profile="u@1"),
            group("g3", profile="u@1", **unverified),
            group("g4", profile="u@2", **unverified),
            group("g5", profile="a@1", purpose=Purpose.EVAL),
            group("g6", **unverified),
        ],
    )
    assert waiting(tmp_path, always=("a@1",), unverified=("u@1",)) == {"g3": (Why.PROFILE,), "g1": (Why.PROFILE,)}
    assert waiting(tmp_path) == {}
    say(tmp_path, "g1", source=LabelSource.REVIEW, tenant="other", outcome=Resolution.SOLVED)  # may not speak of it
    say(tmp_path, "g3", source=LabelSource.REVIEW, tenant="ops", admin=True, outcome=Resolution.SOLVED)
    assert waiting(tmp_path, always=("a@1",), unverified=("u@1",)) == {"g1": (Why.PROFILE,)}


def test_disputes(tmp_path: Path) -> None:
    failed = {"status": Status.FAILED, "reason": Reason.ALL_FAILED}
    tie = {"status": Status.UNVERIFIED, "reason": Reason.TIE}
    records = [group(f"v{number}") for number in range(5)] + [group("f1", **failed), group("f2", **failed)]
    write_log(tmp_path, [*records, group("t1", verification=DECISIVE, **tie), group("t2", **tie)])
    say(tmp_path, "v0", outcome=Resolution.NOT_SOLVED)
    say(tmp_path, "v0", rating=5)
    say(tmp_path, "v1", score=0.5)
    say(tmp_path, "v2", score=0.4)
    say(tmp_path, "v2", outcome=Resolution.SOLVED)
    say(tmp_path, "v3", outcome=Resolution.NOT_SOLVED, tenant="stranger")
    say(tmp_path, "v4", outcome=Resolution.NOT_SOLVED, source=LabelSource.AUDIT)
    say(tmp_path, "f1", score=0.9)
    say(tmp_path, "f2", score=0.1)
    assert waiting(tmp_path) == {
        "v0": (Why.DISPUTED,), "f1": (Why.DISPUTED,), "t1": (Why.DISPUTED,), "v4": (Why.AUDIT,),
    }  # fmt: skip


def test_labels_that_were_removed_from_the_file_are_gone(tmp_path: Path) -> None:
    write_log(tmp_path, [group("v1"), group("v2")])
    for name in ("v1", "v2"):
        say(tmp_path, name, outcome=Resolution.NOT_SOLVED, note="secret")
    assert waiting(tmp_path).keys() == {"v1", "v2"}
    forget(tmp_path, group="v1")
    assert waiting(tmp_path).keys() == {"v2"}
    say(tmp_path, "v2", outcome=Resolution.SOLVED)
    assert waiting(tmp_path) == {}
    located, _ = GroupIndex(tmp_path).read(lambda db: locate(db, "v2"))
    assert located is not None and [label.outcome for label in located.labels] == ["not_solved", "solved"]
