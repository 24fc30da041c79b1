"""What is counted of a canary, how processes share it, and how rarely an equal one is called harmful."""

import random
from pathlib import Path

import pytest

from router.canary import Counts, Tally, read_counts, save_counts
from router.errors import RegistryError


def counted(results: list[tuple[bool, bool]]) -> Counts:
    """The counts of (canary, solved) results of distinct prompts."""
    tally = Tally()
    for number, (canary, solved) in enumerate(results):
        tally.add(str(number), canary=canary, solved=solved)
    return tally.counts


def test_each_answer_is_paired_once_with_the_latest_of_the_other() -> None:
    champion, canary = False, True
    assert counted([(champion, True), (champion, False), (canary, True)]) == Counts(1, 1, 2, 1, better=1)
    assert counted([(champion, False), (champion, True), (canary, False)]) == Counts(1, 0, 2, 1, worse=1)
    assert counted([(canary, True), (champion, True), (champion, False)]) == Counts(1, 1, 2, 1)
    assert counted([(canary, True), (canary, True), (champion, False), (champion, False)]).better == 2


def test_a_prompt_counts_once_however_often_it_is_asked() -> None:
    tally = Tally()
    for _ in range(100):
        tally.add("the same", canary=True, solved=False)
        tally.add("another", canary=False, solved=True)
    assert tally.counts == Counts(1, 0, 1, 1, worse=1)


def test_processes_add_up_and_earlier_epochs_are_dropped(tmp_path: Path) -> None:
    assert read_counts(tmp_path, 3) == Counts()
    save_counts(tmp_path, 3, "a", Counts(10, 5, 20, 15, 1, 6))
    save_counts(tmp_path, 3, "b", Counts(1, 1, 2, 2, 1, 0))
    save_counts(tmp_path, 3, "a", Counts(11, 5, 20, 15, 1, 7))
    assert read_counts(tmp_path, 3) == Counts(12, 6, 22, 17, 2, 7)
    save_counts(tmp_path, 4, "a", Counts(1))
    assert [each.name for each in (tmp_path / "canary").iterdir()] == ["4"] and read_counts(tmp_path, 4) == Counts(1)
    (tmp_path / "canary" / "4" / "b.json").write_text("{")
    with pytest.raises(RegistryError, match=r"b\.json is damaged .* delete it"):
        read_counts(tmp_path, 4)


def test_harm_needs_evidence() -> None:
    assert not Counts().harmful and not Counts(worse=16).harmful
    assert Counts(worse=17).harmful and not Counts(worse=17, better=17).harmful and not Counts(better=200).harmful


def test_an_equal_canary_is_rarely_withdrawn_and_a_bad_one_soon() -> None:
    """Trials of 800 answers, a quarter of them the canary's, looked at after each of those."""
    rng = random.Random(11)

    def withdrawn(champion: float, canary: float) -> bool:
        tally = Tally()
        for number in range(800):
            tried = rng.random() < 0.25
            tally.add(str(number), canary=tried, solved=rng.random() < (canary if tried else champion))
            if tried and tally.counts.harmful:
                return True
        return False

    assert sum(withdrawn(0.6, 0.6) for _ in range(100)) <= 4  # 1 % of them at most: 5 have a chance of 0.3 %
    assert all(withdrawn(0.8, 0.2) for _ in range(20))
