"""The tasks by name, and their rows in the project's form."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import MappingProxyType

from gateway.bench.tasks import arithmetic, extraction, letters, measures, order
from gateway.bench.tasks.item import Item, Task
from gateway.bench.tasks.vocabulary import LONG_WORDS, MIDDLE_WORDS, SHORT_WORDS
from router.errors import ConfigError
from router.questions import Question

MAX_SHOTS = 4
_REPEATS_AT_MOST = 1000  # draws in a row that bring nothing new, before a task counts as used up

TASKS: Mapping[str, Task] = MappingProxyType(
    {
        task.name: task
        for task in (
            Task("add-1digit", arithmetic.addition(1, 1)),
            Task("add-2digit-1digit", arithmetic.addition(2, 1)),
            Task("add-2digit", arithmetic.addition(2, 2)),
            Task("add-3digit", arithmetic.addition(3, 3)),
            Task("subtract-1digit", arithmetic.subtraction(1)),
            Task("subtract-2digit", arithmetic.subtraction(2)),
            Task("multiply-1digit", arithmetic.multiplication),
            Task("chain-1digit", arithmetic.chain),
            Task("story-1step", arithmetic.story_of_one_step),
            Task("story-2step", arithmetic.story_of_two_steps),
            Task("count-letter-5", letters.counting(MIDDLE_WORDS, most=2)),
            Task("count-letter-long", letters.counting(LONG_WORDS, most=3), max_tokens=96),
            Task("reverse-3", letters.reversal(SHORT_WORDS)),
            Task("reverse-5", letters.reversal(MIDDLE_WORDS)),
            Task("sort-3-numbers", order.sorted_numbers(3)),
            Task("sort-5-numbers", order.sorted_numbers(5)),
            Task("sort-3-words", order.sorted_words(MIDDLE_WORDS, 3)),
            Task("largest-of-2", order.largest(2)),
            Task("largest-of-3", order.largest(3)),
            Task("largest-of-5", order.largest(5)),
            Task("unit-to-smaller", measures.to_smaller_unit),
            Task("unit-to-larger", measures.to_larger_unit),
            Task("weekday-after", measures.weekday_after),
            Task("days-in-month", measures.days_in_one_month),
            Task("days-next-month", measures.days_into_next_month, max_tokens=96),
            Task("extract-person", extraction.person),
            Task("extract-order", extraction.order, max_tokens=96),
        )
    }
)


def task_named(name: str) -> Task:
    """The task. Raises `ConfigError` naming all of them."""
    if name not in TASKS:
        raise ConfigError(f"no task {name!r}: choose from {', '.join(TASKS)}")
    return TASKS[name]


def generate(task: Task, count: int, shots: int, seed: int) -> tuple[Question, ...]:
    """`count` rows of different questions, after the same `shots` (0 to 4) worked examples, which are none of them.

    The questions depend on task and seed alone: they are the same under any number of shots, and fewer rows are a
    prefix of more. Raises `ConfigError` when the task has too few different questions.
    """
    items = _different(task, random.Random(f"{task.name}/{seed}"))
    examples = list(islice(items, MAX_SHOTS))[:shots]
    return tuple(_row(line, examples, item) for line, item in enumerate(islice(items, count), start=1))


def write_rows(rows: Sequence[Question], path: Path) -> None:
    """Write JSON Lines of messages and verification. Raises `ConfigError` when the file cannot be written."""
    lines = [json.dumps({"messages": row.messages, "verification": row.verification}) for row in rows]
    try:
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write the rows to {path}: {error}; give another --write") from error


def _different(task: Task, rng: random.Random) -> Iterator[Item]:
    """Items without end, no question twice."""
    seen: set[str] = set()
    repeats = 0
    while repeats < _REPEATS_AT_MOST:
        item = task.draw(rng)
        repeats = repeats + 1 if item.question in seen else 0
        if not repeats:
            seen.add(item.question)
            yield item
    raise ConfigError(f"{task.name} has no more than {len(seen) - MAX_SHOTS} different questions: ask for fewer --rows")


def _row(line: int, examples: Sequence[Item], item: Item) -> Question:
    turns = [
        {"role": role, "content": content}
        for example in examples
        for role, content in (("user", example.question), ("assistant", example.answer))
    ]
    return Question(line, (*turns, {"role": "user", "content": item.question}), {"checks": [dict(item.check)]})
