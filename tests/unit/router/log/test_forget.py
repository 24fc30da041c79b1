"""Forgetting: hidden at once, gone from the files, whatever step a crash cuts it off at."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from router.errors import RecordError
from router.log.forget import forget
from router.log.groups import OnCorrupt, Tally, claim_worker, read_groups, recover_abandoned, segments
from router.log.parts import Position
from router.log.segments import CORRUPT, OPEN, SEALED, frame, segment_path
from router.log.tombstones import load_tombstones
from router.log.writer import SegmentWriter
from router.record_codec import encode
from router.records import GroupRecord
from tests.support.crash import crash_at_every_step
from tests.support.groups import broken, group

SECRET = "the launch code is 0000"


def fill(log_dir: Path) -> None:
    """Two sealed segments and one left open by a dead writer; groups a1, a2, a3 of tenant a hold the secret."""
    worker = claim_worker(log_dir)
    messages = ({"role": "user", "content": SECRET},)
    for first, names in ((0, ("a1", "b1")), (2, ("b2", "a2")), (4, ("a3", "b3"))):
        records = [group(n, tenant=n[0], messages=messages if n[0] == "a" else group().messages) for n in names]
        write(worker.path, first, records, seal=first < 4)
    worker.release()


def write(directory: Path, first: int, records: Sequence[GroupRecord], *, seal: bool) -> None:
    writer = SegmentWriter(directory, first)
    writer.append([frame(encode(record)) for record in records])
    if seal:
        writer.seal()
    writer.abandon()


def ids(log_dir: Path) -> list[str]:
    return [record.group_id for _, record in read_groups(log_dir, include_open=True)]


def holds_secret(log_dir: Path) -> bool:
    return any(SECRET.encode() in path.read_bytes() for path in log_dir.rglob("*") if path.is_file())


def test_a_tenant_is_gone_and_the_others_keep_their_positions(tmp_path: Path) -> None:
    fill(tmp_path)
    before = {record.group_id: position for position, record in read_groups(tmp_path, include_open=True)}
    done = forget(tmp_path, tenant="a")
    assert (done.removed, done.pending, done.unsearchable) == (3, 0, ())
    assert not holds_secret(tmp_path)
    after = {record.group_id: position for position, record in read_groups(tmp_path)}
    assert after == {name: before[name] for name in ("b1", "b2", "b3")}
    assert after["b2"] == Position("w0", 2)


def test_one_group_is_gone_and_forgetting_twice_changes_nothing(tmp_path: Path) -> None:
    fill(tmp_path)
    assert forget(tmp_path, group="a2").removed == 1
    content = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert forget(tmp_path, group="a2").removed == 0
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == content
    assert ids(tmp_path) == ["a1", "b1", "b2", "a3", "b3"]


def test_a_forgotten_tenant_may_come_back(tmp_path: Path) -> None:
    fill(tmp_path)
    forget(tmp_path, tenant="a")
    later = max(load_tombstones(tmp_path).tenants.values()) + 1
    write(tmp_path / "w0", 6, [group("a4", tenant="a", created_at=later)], seal=True)
    assert ids(tmp_path) == ["b1", "b2", "b3", "a4"]


def test_groups_in_a_segment_being_written_are_hidden_at_once(tmp_path: Path) -> None:
    worker = claim_worker(tmp_path)
    writer = SegmentWriter(worker.path, 0)
    writer.append([frame(encode(group(name, tenant=name[0]))) for name in ("a1", "b1")])
    done = forget(tmp_path, tenant="a")
    assert (done.removed, done.pending) == (0, 1)
    assert ids(tmp_path) == ["b1"]
    writer.abandon()
    worker.release()
    assert [found.forgotten for found in recover_abandoned(tmp_path)] == [1]  # the next start seals it without them


def test_a_damaged_segment_is_named_not_rewritten(tmp_path: Path) -> None:
    fill(tmp_path)
    damaged, other = segment_path(tmp_path / "w0", 0, SEALED), segment_path(tmp_path / "w0", 2, SEALED)
    content = broken(damaged)
    damaged.write_bytes(content)
    other.rename(other.with_suffix(CORRUPT))
    done = forget(tmp_path, tenant="a")
    assert set(done.unsearchable) == {damaged, other.with_suffix(CORRUPT)}
    assert damaged.read_bytes() == content


def test_a_record_of_a_newer_schema_is_not_passed_over_in_silence(tmp_path: Path) -> None:
    fill(tmp_path)
    write(tmp_path / "w0", 6, [group("n1", schema_version=2)], seal=True)
    assert forget(tmp_path, tenant="a").unsearchable == (segment_path(tmp_path / "w0", 6, SEALED),)


def test_a_damaged_list_of_tombstones_stops_every_reader(tmp_path: Path) -> None:
    fill(tmp_path)
    forget(tmp_path, group="a1")
    (tmp_path / "tombstones.jsonl").write_bytes(b"\x00\n")
    with pytest.raises(RecordError, match="line 1, is damaged"):
        list(read_groups(tmp_path))


def test_an_unfinished_tombstone_was_never_acknowledged(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "tombstones.jsonl").write_bytes(b'{"ts": 1.0, "gro')
    assert len(ids(tmp_path)) == 6
    forget(tmp_path, group="b1")
    assert load_tombstones(tmp_path).groups == {"b1"}


def test_a_crash_at_any_step_hides_all_or_nothing_and_a_repeat_removes_it(tmp_path: Path) -> None:
    log_dir = tmp_path / "log"

    def prepare() -> None:
        shutil.rmtree(log_dir, ignore_errors=True)
        log_dir.mkdir()
        fill(log_dir)

    for _ in crash_at_every_step(prepare, lambda: forget(log_dir, tenant="a"), least=15):
        assert ids(log_dir) in (["b1", "b2", "b3"], ["a1", "b1", "b2", "a2", "a3", "b3"])
        forget(log_dir, tenant="a")
        assert ids(log_dir) == ["b1", "b2", "b3"]
        assert not holds_secret(log_dir)


@pytest.mark.parametrize(
    ("choice", "left"), [(OnCorrupt.SKIP, SEALED), (OnCorrupt.QUARANTINE, CORRUPT)], ids=["skip", "quarantine"]
)
def test_a_corrupt_segment_is_the_callers_choice(tmp_path: Path, choice: OnCorrupt, left: str) -> None:
    fill(tmp_path)
    path = segment_path(tmp_path / "w0", 0, SEALED)
    path.write_bytes(broken(path))
    with pytest.raises(RecordError, match="SHA-256"):
        list(read_groups(tmp_path))
    tally = Tally()
    assert [record.group_id for _, record in read_groups(tmp_path, on_corrupt=choice, tally=tally)] == ["b2", "a2"]
    assert tally.damage == {"segment": 1}
    assert path.with_suffix(left).exists()


def test_no_two_writers_share_a_directory(tmp_path: Path) -> None:
    first, second = claim_worker(tmp_path), claim_worker(tmp_path)
    assert [first.path.name, second.path.name] == ["w0", "w1"]
    first.release()
    third = claim_worker(tmp_path)
    assert third.path.name == "w0"
    second.release()
    third.release()


def test_sequence_numbers_go_on_after_a_restart(tmp_path: Path) -> None:
    fill(tmp_path)
    recover_abandoned(tmp_path)
    worker = claim_worker(tmp_path)
    assert worker.next_seq() == 6
    worker.release()
    assert not segments(tmp_path, OPEN)
