"""Inputs for a function of known argument types: the same for every candidate, run and machine."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import Any, Literal

ArgumentType = Literal["int", "size", "float", "bool", "str", "list[int]", "list[float]", "list[str]"]

INPUTS = 96  # calls of each candidate
# What programs compare with: small numbers, round ones, those of calendars and ASCII, tenths, each with its neighbours.
# All programs are called on the same ones. On the constants of its own code a program would have inputs of its own, and
# two that compute the same from different constants would no longer have one key.
_INTS = (
    *range(-4, 22),
    25,
    26,
    27,
    32,
    36,
    37,
    50,
    64,
    65,
    90,
    97,
    99,
    100,
    101,
    121,
    122,
    127,
    128,
    256,
    365,
    366,
    400,
)
_INTS += (999, 1000, 1001, 1024, 1900, 2000, 2024, -10, -12, -21, -99, -100, -101)
_FLOATS = (*(tenth / 10 for tenth in range(43)), -1.0, -2.5, 2.25, 10.0, 50.0, 59.5, 60.0, 90.0, 99.99, 100.0)
_FLOATS += (-273.15, 1e6)
_WORDS = ("", "a", "A", "ab", "aba", "bab", "level", "Racecar", "hello world", "Hello, World!", "the cat and the hat")
_MARKS = (
    "12321",
    "42",
    "-7",
    "3.5",
    "  two  spaces ",
    "([]{})",
    "(()",
    "(",
    ")",
    "())",
    "a1b2c3",
    "UPPER lower",
    "x_y-z",
    "aabbbc",
)
_LETTERS = ("ab", "abcdeABC", "a1 b2", "()[]", "aeioubcdxyz", "aEiOuBcDz")
_LONGEST_LIST = 8
_LONGEST_SIZE = 12


def generated(entry: str, types: Sequence[ArgumentType]) -> list[list[Any]]:
    """`INPUTS` argument lists for a function `entry(*types)`, drawn with a seed of nothing but name and types.

    Each argument takes the usual borders of its type (zero, negative, empty, repeated) and random values, in an order
    of its own; every third resembles the argument before it: two independent texts are never anagrams, and an
    independent number is never the length or the sum of a list. `size` is for counts, whose work may grow
    exponentially: 0 to 12.
    """
    seed = hashlib.sha256(f"{entry}({','.join(types)})".encode()).digest()
    rng = random.Random(int.from_bytes(seed))  # repeatable, and no secret
    columns = [_column(kind, rng) for kind in types]
    for index in range(1, len(types)):
        if types[index] == types[index - 1]:
            similar = [_resembling(value, rng) for value in columns[index - 1][::3]]
            columns[index][::3] = map(_as_size, similar) if types[index] == "size" else similar
        elif types[index] == "int":
            columns[index][::3] = [_measured(value, rng) for value in columns[index - 1][::3]]
    return [list(row) for row in zip(*columns, strict=True)]


def _resembling(value: Any, rng: random.Random) -> Any:
    """The same number, a neighbour or its length; the same items in another order, or the latter half of them."""
    if isinstance(value, int) and not isinstance(value, bool):
        return rng.choice((value, value, value + 1, value - 1, len(str(value))))
    if not isinstance(value, list | str):
        return value
    items = rng.sample(value, len(value)) if rng.random() < 0.5 else value[len(value) // 2 :]
    return "".join(items) if isinstance(value, str) else items


def _as_size(value: int) -> int:
    return min(max(value, 0), _LONGEST_SIZE)


def _measured(value: Any, rng: random.Random) -> int:
    """A whole number that says something of a value: its length, its sum, an item, or one more or less."""
    if isinstance(value, list | str):
        numbers = [int(item) for item in value if isinstance(item, int | float)]
        return rng.choice((len(value), *numbers, sum(numbers), sum(numbers))) + rng.choice((-1, 0, 0, 1))
    return int(value) + rng.choice((-1, 0, 1))


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
            return _mirrored("".join(rng.choices(rng.choice(_LETTERS), k=rng.choice((*range(1, 11), 2, 3, 3, 4)))), rng)
        case "bool":
            return rng.random() < 0.5
    return _list(_item(kind), rng)


def _list(kind: ArgumentType, rng: random.Random) -> list[Any]:
    """Some from few values, so that they repeat, and some sorted."""
    pool: Sequence[Any] = rng.sample(_borders(kind), rng.randint(2, _LONGEST_LIST))
    items = rng.choices(pool, k=rng.randint(2, _LONGEST_LIST))
    return sorted(items) if rng.random() < 0.25 else _mirrored(items, rng)


def _mirrored(items: Any, rng: random.Random) -> Any:
    """Now and then what reads the same backwards."""
    return items + items[::-1] if rng.random() < 0.15 else items


def _item(kind: ArgumentType) -> ArgumentType:
    match kind:
        case "list[int]":
            return "int"
        case "list[float]":
            return "float"
        case "list[str]":
            return "str"
    raise ValueError(f"{kind} has no items")
