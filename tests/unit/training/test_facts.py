"""What the trainer tells the gateways of its cycles."""

from pathlib import Path

import pytest

from router.errors import TrainingError
from router.training_facts import FILE_NAME, MAX_SCORES, HeldoutScore, TrainingFacts, load_training_facts
from training.facts import tell_cycles
from training.ledger import Cycle, Exit, Ledger


def test_cycles_are_counted_by_how_they_ended(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    tell_cycles(tmp_path, ledger, 4, 60.0)
    assert load_training_facts(tmp_path) == TrainingFacts(waiting_groups=4, looked_at=60.0)
    for cycle in (
        Cycle("a", 0, ts=100.0, exit=Exit.HELD, seconds={"train": 5.0, "evaluate": 9.0}, last_group_at=50.0),
        Cycle("b", 0, ts=200.0, exit=Exit.FAILED, seconds={"train": 2.0}),
    ):
        ledger.begin(cycle)
        ledger.finish(cycle)
    tell_cycles(tmp_path, ledger, 0, 300.0)
    assert load_training_facts(tmp_path) == TrainingFacts(
        {"held": 1, "failed": 1}, last_success=100.0, last_seconds=2.0, seconds=7.0, read_until=50.0, looked_at=300.0
    )


def test_a_score_takes_the_place_of_an_older_one_and_their_number_is_bounded() -> None:
    facts = TrainingFacts()
    for number in range(MAX_SCORES + 5):
        facts = facts.scored(HeldoutScore("eval", f"p{number}", 1, 2)).scored(HeldoutScore("eval", f"p{number}", 2, 2))
    assert len(facts.scores) == MAX_SCORES and {score.solved for score in facts.scores} == {2}


def test_a_damaged_file_is_named_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("[]")
    with pytest.raises(TrainingError, match="remove it"):
        load_training_facts(tmp_path)
