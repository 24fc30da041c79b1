"""One problem with its worked answer and the check that reads answers to it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

Rng: TypeAlias = random.Random
DEFAULT_MAX_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Item:
    """A question that states the form of its answer, a right answer in that form, and the check."""

    question: str
    answer: str
    check: Mapping[str, Any]


Draw: TypeAlias = Callable[[Rng], Item]


@dataclass(frozen=True, slots=True)
class Task:
    """A named distribution of items. `draw` depends on nothing but the generator it is given."""

    name: str
    draw: Draw
    max_tokens: int = DEFAULT_MAX_TOKENS  # of a completion: about twice what a worked answer takes


def number_item(problem: str, working: str, value: int) -> Item:
    """A problem whose answer is a number, shown after its working."""
    question = f'{problem} End with "Answer: " and the number.'
    return Item(question, f"{working}\nAnswer: {value}", {"type": "numeric", "reference": value})


def word_item(problem: str, working: str, word: str) -> Item:
    """A problem whose answer is one word, shown after its working."""
    question = f'{problem} End with "Answer: " and the word.'
    return Item(question, f"{working}\nAnswer: {word}", {"type": "exact", "reference": word})


def list_item(problem: str, values: Sequence[str]) -> Item:
    """A problem whose answer is a list in order; commas, spaces or both may stand between its members."""
    question = f'{problem} End with "Answer: " and the list, separated by commas.'
    accepted = [separator.join(values) for separator in (", ", ",", " ")]
    return Item(question, f"Answer: {accepted[0]}", {"type": "exact", "reference": accepted})
