"""Every generated row: its check takes the worked answer and refuses another row's; examples are no questions."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.bench.tasks.catalogue import MAX_SHOTS, TASKS, generate
from gateway.bench.tasks.item import Item, Task
from router.enums import CheckClass, Outcome
from router.questions import parse_question
from router.verify.merge import merge
from router.verify.registry import CHECK_TYPES

SEEDS = st.integers(0, 10**9)
every_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS.keys())


def outcome(item: Item, text: str) -> Outcome:
    """What the project's own check says of `text`, after the admission that a request goes through."""
    (spec,) = merge({"checks": [item.check]}, None, {}, None, 3.0).checks
    kind: Any = CHECK_TYPES[spec.type]
    assert spec.klass is CheckClass.DECISIVE
    found: Outcome = kind.run(msgspec.convert(spec.params, kind.params), text).outcome
    return found


@every_task
@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_the_worked_answer_passes_and_an_answer_to_another_question_fails(task: Task, seed: int) -> None:
    rng = random.Random(seed)
    item = task.draw(rng)
    assert outcome(item, item.answer) is Outcome.PASS
    other = next(other for _ in iter(int, 1) if (other := task.draw(rng)).check != item.check)
    assert outcome(item, other.answer) is Outcome.FAIL


@every_task
@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_no_answer_and_the_bare_question_do_not_pass(task: Task, seed: int) -> None:
    rng = random.Random(seed)
    item = task.draw(rng)
    for text in ("", "I do not know.", item.question):
        assert outcome(item, text) is Outcome.FAIL


@every_task
@settings(max_examples=5, deadline=None)
@given(SEEDS, st.integers(0, MAX_SHOTS))
def test_the_examples_are_none_of_the_questions(task: Task, seed: int, shots: int) -> None:
    rows = generate(task, 20, shots, seed)
    assert [row.line for row in rows] == list(range(1, 21))
    questions = [row.messages[-1]["content"] for row in rows]
    assert len(set(questions)) == len(questions)
    for row in rows:
        examples = row.messages[:-1]
        assert examples == rows[0].messages[:-1]
        assert [turn["role"] for turn in examples] == ["user", "assistant"] * shots
        assert not {turn["content"] for turn in examples} & set(questions)


@every_task
@settings(max_examples=5, deadline=None)
@given(SEEDS)
def test_the_questions_depend_on_task_and_seed_alone(task: Task, seed: int) -> None:
    rows = generate(task, 20, 0, seed)
    assert rows == generate(task, 20, 0, seed)
    assert rows[:7] == generate(task, 7, 0, seed)
    shown = generate(task, 20, MAX_SHOTS, seed)
    assert [row.messages[-1] for row in shown] == [row.messages[-1] for row in rows]
    assert [row.verification for row in shown] == [row.verification for row in rows]


@every_task
def test_another_seed_asks_something_else(task: Task) -> None:
    assert generate(task, 10, 0, 1) != generate(task, 10, 0, 2)


@every_task
def test_a_row_survives_its_file(task: Task) -> None:
    (row,) = generate(task, 1, 2, 0)
    text = json.dumps({"messages": row.messages, "verification": row.verification})
    assert parse_question(text, 1) == row


def test_no_constant_answer_counts_letters_well() -> None:
    rows = generate(TASKS["count-letter-long"], 200, 0, 0)
    references = [row.verification["checks"][0]["reference"] for row in rows]
    assert set(references) == {0, 1, 2, 3}
    assert max(references.count(value) for value in range(4)) < 80
