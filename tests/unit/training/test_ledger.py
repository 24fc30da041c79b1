"""The ledger after crashes, torn writes and damage."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from router.errors import TrainingError
from training.ledger import Cycle, Exit, Ledger

TORN = {
    "half a line": b'{"id":"c2","epoch":0,"ts":1.0,"pol',
    "zeros": b"\0" * 40,
    "half a line and zeros": b'{"id":"c2"' + b"\0" * 40,
    "zeros and an end": b"\0" * 40 + b"\n",
    "no text": b"\xff\xfe\xfa",
    "an end alone": b"\n",
    "a whole line without its end": msgspec.json.encode(Cycle("c2", 0)),
}


def cycle(name: str, group: str | None = None, at: float | None = None) -> Cycle:
    return Cycle(name, 0, exit=Exit.HELD, last_group=group, last_group_at=at)


@pytest.mark.parametrize("torn", TORN.values(), ids=TORN.keys())
@pytest.mark.parametrize("before", [0, 2])
def test_a_torn_last_line_is_passed_by_and_the_next_one_is_whole(tmp_path: Path, torn: bytes, before: int) -> None:
    ledger, known = Ledger(tmp_path), [cycle(f"a{n}") for n in range(before)]
    for each in known:
        ledger.finish(each)
    with (tmp_path / "ledger.jsonl").open("ab") as file:
        file.write(torn)
    assert ledger.cycles() == known
    ledger.finish(cycle("c2"))
    assert ledger.cycles() == [*known, cycle("c2")]
    assert len((tmp_path / "ledger.jsonl").read_bytes().splitlines()) == before + 1


def test_damage_before_the_last_line_is_named(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.finish(cycle("a"))
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b"not a cycle\n" + path.read_bytes())
    with pytest.raises(TrainingError, match=r"ledger\.jsonl is damaged .*restore it or remove the line") as found:
        ledger.cycles()
    assert "\n" not in str(found.value)


def test_a_damaged_file_of_the_cycle_under_way_is_named_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "cycle.json").write_bytes(b'{"id"')
    with pytest.raises(TrainingError, match=r"cycle\.json is damaged .*remove it"):
        Ledger(tmp_path).unfinished()


def test_a_cycle_is_kept_as_far_as_it_has_come_and_leaves_no_scraps(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    assert ledger.unfinished() is None
    (tmp_path / ".cycle.json.abc.tmp").write_bytes(b"left by a crash")
    ledger.save(cycle("a"))
    ledger.save(cycle("b", "g1", 1.0))
    assert ledger.unfinished() == cycle("b", "g1", 1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["cycle.json"]
    ledger.finish(cycle("b", "g1", 1.0))
    assert ledger.unfinished() is None
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.jsonl"]


def test_the_newest_group_of_any_cycle_counts(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    assert ledger.last_group() is None
    for each in (cycle("a", "g2", 2.0), cycle("b", "g3", 2.0), cycle("c", "g1", 1.0), cycle("failed")):
        ledger.finish(each)
    assert ledger.last_group() == (2.0, "g3")
