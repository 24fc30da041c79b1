"""The ledger: results with what they consumed, damage, and the files of earlier versions."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from router.errors import TrainingError
from router.log.groups import Span
from router.log.parts import Position
from training.ledger import LEDGER_FILE, Consumed, Cycle, Exit, Ledger


def cycle(name: str, group: str | None = None, at: float | None = None) -> Cycle:
    return Cycle(name, 0, exit=Exit.HELD, last_group=group, last_group_at=at)


def test_reading_makes_no_file(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    assert (ledger.unfinished(), ledger.cycles(), ledger.consumed()) == (None, [], Consumed())
    assert list(tmp_path.iterdir()) == []


def test_a_cycle_is_kept_as_far_as_it_has_come_and_only_one_is_under_way(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.begin(cycle("a"))
    ledger.begin(cycle("b"))
    ledger.save(cycle("b", "g1", 1.0), [Span("w0", 0, 4)])
    assert ledger.unfinished() == cycle("b", "g1", 1.0)
    assert ledger.cycles() == []
    ledger.finish(cycle("b", "g1", 2.0))
    ledger.begin(cycle("c"))
    ledger.finish(cycle("c"))
    assert ledger.unfinished() is None
    assert ledger.cycles() == [cycle("b", "g1", 2.0), cycle("c")]
    assert [path.name for path in tmp_path.iterdir()] == [LEDGER_FILE]


@pytest.mark.parametrize("ended", [False, True])
def test_nothing_is_written_for_a_cycle_that_is_not_under_way(tmp_path: Path, ended: bool) -> None:
    """Of two trainers that both believe to have the lock, the one that began first cannot go on."""
    ledger = Ledger(tmp_path)
    ledger.begin(cycle("a"))
    if ended:
        ledger.finish(cycle("a"))
    ledger.begin(cycle("b"))
    for write in (ledger.save, ledger.finish):
        with pytest.raises(TrainingError, match="another trainer has begun a cycle"):
            write(cycle("a", "g1", 1.0))
    with pytest.raises(TrainingError):
        ledger.save(cycle("a"), [Span("w0", 0, 4)])
    assert ledger.unfinished() == cycle("b") and ledger.consumed() == Consumed()
    assert ledger.cycles() == [cycle("a")] * ended


def test_what_was_read_is_consumed_and_nothing_else(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.begin(cycle("a"))
    ledger.save(cycle("a", "g9", 9.0), [Span("w0", 0, 4), Span("w1", 10, 12)])
    ledger.save(cycle("a", "g9", 9.0), [Span("w0", 4, 6), Span("w0", 8, 9)])
    read = ledger.consumed()
    made = (1.0, "g")  # older than the newest that was trained on: it does not matter
    assert [seq for seq in range(12) if read.covers(Position("w0", seq), made)] == [0, 1, 2, 3, 4, 5, 8]
    assert [seq for seq in range(8, 14) if read.covers(Position("w1", seq), made)] == [10, 11]
    assert not read.covers(Position("w2", 0), made)


def test_a_damaged_file_is_named_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / LEDGER_FILE).write_bytes(b"not a database" * 100)
    with pytest.raises(TrainingError, match=r"ledger\.sqlite is damaged .*restore it from a backup") as found:
        Ledger(tmp_path).cycles()
    assert "\n" not in str(found.value)


def test_a_folder_that_refuses_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="gone"):
        Ledger(tmp_path / "gone").begin(cycle("a"))


def test_files_of_earlier_versions_are_taken_over_once(tmp_path: Path) -> None:
    ended = [cycle("a", "g2", 2.0), cycle("b", "g3", 2.0), cycle("c", "g1", 1.0), cycle("failed")]
    torn = b'{"id":"d","epo'  # as a power cut leaves the last line
    (tmp_path / "ledger.jsonl").write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in ended) + torn)
    (tmp_path / "cycle.json").write_bytes(msgspec.json.encode(cycle("e", "g4", 4.0)))
    ledger = Ledger(tmp_path)
    assert ledger.unfinished() == cycle("e", "g4", 4.0)
    assert ledger.cycles() == ended
    read = ledger.consumed()
    assert read == Consumed({}, (2.0, "g3"))
    assert read.covers(Position("w0", 7), (2.0, "g3")) and not read.covers(Position("w0", 0), (2.0, "g4"))
    ledger.finish(cycle("e", "g4", 4.0))
    assert [each.id for each in ledger.cycles()] == ["a", "b", "c", "failed", "e"]
    assert ledger.consumed().marker == (4.0, "g4")


def test_a_damaged_file_of_an_earlier_version_is_named(tmp_path: Path) -> None:
    (tmp_path / "ledger.jsonl").write_bytes(b"not a cycle\n")
    with pytest.raises(TrainingError, match=r"ledger\.jsonl .* is damaged .*remove the line") as found:
        Ledger(tmp_path).cycles()
    assert "\n" not in str(found.value)
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.jsonl"]
