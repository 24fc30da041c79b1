"""What was learnt of a group later is what its returned answer earns, however often drawn; others keep theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from router.enums import Outcome
from router.log.labels import LABEL_FILE, Label, LabelSource, Resolution, append_label
from router.records import GroupRecord, SampleRecord
from tests.support.groups import CHECK
from tests.support.training_log import FINGERPRINT, trained_group, trained_sample, write_log
from training.curriculum import Choice
from training.dataset import Accepts, Dataset, read_dataset
from training.rows import ModelLimits

ACCEPTS = Accepts(None, None, FINGERPRINT, ModelLimits(vocab_size=100, max_length=16))
SOLVED, NOT_SOLVED = Resolution.SOLVED, Resolution.NOT_SOLVED


def answered(rewards: tuple[float | None, ...], selected: int = 0, **fields: Any) -> GroupRecord:
    """A group of different answers that returned one of them."""
    samples = tuple(
        drawn(index, reward, str(index), selected=index == selected) for index, reward in enumerate(rewards)
    )
    return trained_group("g", rewards, samples=samples, **fields)


def drawn(index: int, reward: float | None, key: str | None, text: str | None = None, **fields: Any) -> SampleRecord:
    """A sample with this canonical answer, in words of its own unless it has a `text`."""
    message = {"role": "assistant", "content": f"in words {index}: {key}" if text is None else text}
    return trained_sample(index, reward, answer_key=key, message=message, **fields)


def say(log_dir: Path, **fields: Any) -> None:
    known: dict[str, Any] = {"at": 1.0, "source": LabelSource.FEEDBACK, "tenant": "local", "author": "k"}
    append_label(log_dir, Label(group_id="g", **(known | fields)))


def rewards(dataset: Dataset) -> list[float]:
    return [row.reward for group in dataset.groups for row in group.rows]


@pytest.mark.parametrize(
    ("said", "earned", "source"),
    [
        ([{"outcome": NOT_SOLVED}], 0.0, "feedback"),
        ([{"outcome": NOT_SOLVED}, {"score": 0.25}], 0.25, "feedback"),
        ([{"outcome": NOT_SOLVED}, {"rating": 5}], 0.0, "feedback"),
        ([{"rating": 1, "minutes_saved": -3}], 1.0, "verifier"),
        ([{"outcome": NOT_SOLVED, "tenant": "stranger"}], 1.0, "verifier"),
        ([{"outcome": NOT_SOLVED, "tenant": "ops", "admin": True}], 0.0, "feedback"),
        ([{"outcome": NOT_SOLVED, "source": LabelSource.AUDIT}, {"outcome": SOLVED}], 0.0, "audit"),
        ([{"outcome": SOLVED, "source": LabelSource.REVIEW}, {"outcome": NOT_SOLVED}], 1.0, "review"),
    ],
)
def test_the_newest_trusted_label_holds(tmp_path: Path, said: list[dict[str, Any]], earned: float, source: str) -> None:
    write_log(tmp_path, [answered((1.0, 0.5))])
    for fields in said:
        say(tmp_path, **fields)
    dataset = read_dataset(tmp_path, ACCEPTS, Choice(100))
    assert rewards(dataset) == [earned, 0.5]
    expected = {"verifier": 2} if source == "verifier" else {source: 1, "verifier": 1}
    assert dataset.counts.label_sources == expected and dataset.counts.as_dict()["label_sources"] == expected


def test_other_answers_are_not_spoken_of(tmp_path: Path) -> None:
    write_log(tmp_path, [answered((1.0, 1.0, 0.0), selected=1)])
    say(tmp_path, outcome=NOT_SOLVED)
    assert rewards(read_dataset(tmp_path, ACCEPTS, Choice(100))) == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(("outcome", "earned"), [(NOT_SOLVED, 0.0), (SOLVED, 1.0)])
def test_the_same_answer_earns_the_same_however_often_it_was_drawn(
    tmp_path: Path, outcome: Resolution, earned: float
) -> None:
    same = (drawn(0, 0.5, "4", selected=True), drawn(1, 0.5, "4"), drawn(2, None, "4"), drawn(3, 0.25, "5"))
    write_log(tmp_path, [trained_group("g", samples=same)])
    say(tmp_path, outcome=outcome)
    dataset = read_dataset(tmp_path, ACCEPTS, Choice(100))
    assert rewards(dataset) == [earned] * 3 + [0.25]
    assert dataset.counts.label_sources == {"feedback": 3, "verifier": 1}


def test_without_a_canonical_answer_the_same_words_earn_the_same(tmp_path: Path) -> None:
    samples = (drawn(0, 1.0, None, "a poem", selected=True), drawn(1, 1.0, None, "a poem"), drawn(2, 1.0, None))
    write_log(tmp_path, [trained_group("g", samples=samples)])
    say(tmp_path, outcome=NOT_SOLVED)
    assert rewards(read_dataset(tmp_path, ACCEPTS, Choice(100))) == [0.0, 0.0, 1.0]


def test_no_label_lifts_a_sample_that_failed_a_required_check_of_its_own(tmp_path: Path) -> None:
    failed = structs.replace(CHECK, id="format", outcome=Outcome.FAIL)
    samples = (drawn(0, 0.5, "4", selected=True), drawn(1, 0.0, "4", checks=(CHECK, failed)))
    write_log(tmp_path, [trained_group("g", samples=samples)])
    say(tmp_path, outcome=SOLVED)
    assert rewards(read_dataset(tmp_path, ACCEPTS, Choice(100))) == [1.0, 0.0]


def test_an_answer_that_no_check_decided_can_train_once_it_is_labelled(tmp_path: Path) -> None:
    write_log(tmp_path, [answered((None, 0.0))])
    assert read_dataset(tmp_path, ACCEPTS, Choice(100)).counts.dropped_rows == {"no_reward": 1}
    say(tmp_path, outcome=SOLVED)
    assert rewards(read_dataset(tmp_path, ACCEPTS, Choice(100))) == [1.0, 0.0]


def test_a_group_that_returned_nothing_is_not_relabelled(tmp_path: Path) -> None:
    write_log(tmp_path, [answered((1.0, 0.0), selected=9)])
    say(tmp_path, outcome=NOT_SOLVED)
    assert rewards(read_dataset(tmp_path, ACCEPTS, Choice(100))) == [1.0, 0.0]


@pytest.mark.parametrize("fields", [{"train_consent": False}, {"heldout": True}])
def test_a_label_opens_nothing_to_training(tmp_path: Path, fields: dict[str, Any]) -> None:
    write_log(tmp_path, [answered((1.0, 0.0), **fields)])
    say(tmp_path, outcome=SOLVED, source=LabelSource.REVIEW, admin=True)
    assert read_dataset(tmp_path, ACCEPTS, Choice(100)).groups == ()


def test_a_damaged_label_is_counted_and_the_others_hold(tmp_path: Path) -> None:
    write_log(tmp_path, [answered((1.0, 0.5))])
    (tmp_path / LABEL_FILE).write_bytes(b"?\n")
    say(tmp_path, outcome=NOT_SOLVED)
    dataset = read_dataset(tmp_path, ACCEPTS, Choice(100))
    assert rewards(dataset) == [0.0, 0.5] and dataset.counts.damage == {"label": 1}
    assert LABEL_FILE in dataset.counts.problems[0]
