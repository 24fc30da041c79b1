"""Inputs for a function of known argument types: the same for every candidate, run and machine."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import Any, Literal

ArgumentType = Literal["int", "size", "float", "bool", "str", "list[int]", "list[float]", "list[str]"]

INPUTS = 48  # calls of each candidate
_INTS = (*range(-4, 17), 25, 36, 97, 99, 100, 121, 1000, 1900, 2000, 2024)
_FLOATS = (0.0, 0.5, 1.0, -1.0, 1.5, -2.5, 2.25, 3.7, 10.0, 99.99, 100.0, -273.15, 1e6)
_WORDS = ("", "a", "A", "ab", "aba", "level", "Racecar", "hello world", "Hello, World!", "the cat and the hat")
_MARKS = ("12321", "42", "-7", "3.5", "  two  spaces ", "([]{})", "(()", "a1b2c3", "UPPER lower", "x_y-z", "aabbbc")
_LONGEST_LIST = 8
_LONGEST_SIZE = 12


def generated(entry: str, types: Sequence[ArgumentType]) -> list[list[Any]]:
    """`INPUTS` argument lists for a function `entry(*types)`, drawn with a seed of nothing but name and types.

    Each argument takes the usual borders of its type (zero, negative, empty, repeated) and random values, in an order
    of its own; every third resembles the argument before it, if of its type: two independent texts are never anagrams.
    `size` is for counts, whose work may grow exponentially: 0 to 12.
    """
    seed = hashlib.sha256(f"{entry}({','.join(types)})".encode()).digest()
    rng = random.Random(int.from_bytes(seed))  # repeatable, and no secret
    columns = [_column(kind, rng) for kind in types]
    for index in range(1, len(types)):
        if types[index] == types[index - 1]:
            columns[index][::3] = [_resembling(value, rng) for value in columns[index - 1][::3]]
    return [list(row) for row in zip(*columns, strict=True)]


def _resembling(value: Any, rng: random.Random) -> Any:
    """The same number; the same items in another order, or the latter half of them."""
    if not isinstance(value, list | str):
        return value
    items = rng.sample(value, len(value)) if rng.random() < 0.5 else value[len(value) // 2 :]
    return "".join(items) if isinstance(value, str) else items


def _column(kind: ArgumentType, rng: random.Random) -> list[Any]:
    borders = _borders(kind)[:INPUTS]
    column = [*borders, *(_value(kind, rng) for _ in range(INPUTS - len(borders)))]
    rng.shuffle(column)
    return column


def _borders(kind: ArgumentType) -> Sequence[Any]:
    match kind:
        case "int":
            return _INTS
        case "size":
            return range(_LONGEST_SIZE + 1)
        case "float":
            return _FLOATS
        case "str":
            return (*_WORDS, *_MARKS)
        case "bool":
            return ()
    return [[], *([item] for item in _borders(_item(kind))[:2]), [_borders(_item(kind))[1]] * 3]


def _value(kind: ArgumentType, rng: random.Random) -> Any:
    match kind:
        case "int":
            return rng.randint(-50, 3000)
        case "size":
            return rng.randint(0, _LONGEST_SIZE)
        case "float":
            return round(rng.uniform(-100, 100), 2)
        case "str":
            return "".join(rng.choices(rng.choice(("ab", "abcdeABC", "a1 b2", "()[]")), k=rng.randint(1, 10)))
        case "bool":
            return rng.random() < 0.5
    return _list(_item(kind), rng)


def _list(kind: ArgumentType, rng: random.Random) -> list[Any]:
    """Some from few values, so that they repeat, and some sorted."""
    pool: Sequence[Any] = rng.sample(_borders(kind), rng.randint(2, _LONGEST_LIST))
    items = rng.choices(pool, k=rng.randint(2, _LONGEST_LIST))
    return sorted(items) if rng.random() < 0.25 else items


def _item(kind: ArgumentType) -> ArgumentType:
    match kind:
        case "list[int]":
            return "int"
        case "list[float]":
            return "float"
        case "list[str]":
            return "str"
    raise ValueError(f"{kind} has no items")
