"""Arithmetic: bare sums, and stories of one and two steps."""

from __future__ import annotations

from gateway.bench.tasks.item import Draw, Item, Rng, number_item
from gateway.bench.tasks.vocabulary import NAMES, THINGS


def addition(digits: int, digits_of_second: int) -> Draw:
    """a + b of so many digits."""

    def draw(rng: Rng) -> Item:
        a, b = _number(rng, digits), _number(rng, digits_of_second)
        return _bare(f"{a} + {b}", a + b)

    return draw


def subtraction(digits: int) -> Draw:
    """a - b of `digits` digits each, never below zero."""

    def draw(rng: Rng) -> Item:
        b, a = sorted((_number(rng, digits), _number(rng, digits)))
        return _bare(f"{a} - {b}", a - b)

    return draw


def multiplication(rng: Rng) -> Item:
    """a * b of one digit each, without the factor 1."""
    a, b = rng.randint(2, 9), rng.randint(2, 9)
    return _bare(f"{a} * {b}", a * b)


def chain(rng: Rng) -> Item:
    """a + b - c of one digit each, never below zero."""
    a, b = _number(rng, 1), _number(rng, 1)
    c = rng.randint(1, min(9, a + b))
    return number_item(f"What is {a} + {b} - {c}?", f"{a} + {b} = {a + b}. {a + b} - {c} = {a + b - c}.", a + b - c)


def story_of_one_step(rng: Rng) -> Item:
    """Some more, or some less, below 20."""
    name, things = rng.choice(NAMES), rng.choice(THINGS)
    less, more = sorted(rng.sample(range(1, 20), 2))
    if rng.random() < 0.5:
        problem = f"{name} has {more} {things} and gets {less} more."
        working, value = f"{more} + {less} = {more + less}.", more + less
    else:
        problem = f"{name} has {more} {things} and gives {less} away."
        working, value = f"{more} - {less} = {more - less}.", more - less
    return number_item(f"{problem} How many {things} does {name} have now?", working, value)


def story_of_two_steps(rng: Rng) -> Item:
    """Some more and some less, or so many in each box and some beside."""
    name, things = rng.choice(NAMES), rng.choice(THINGS)
    a, b, c = rng.randint(4, 19), rng.randint(2, 9), rng.randint(2, 4)
    if rng.random() < 0.5:
        problem = f"{name} has {a} {things}, gets {b} more and gives {c} away."
        working, value = f"{a} + {b} = {a + b}. {a + b} - {c} = {a + b - c}.", a + b - c
    else:
        problem = f"{name} has {c} boxes with {b} {things} each, and {a} more {things}."
        working, value = f"{c} * {b} = {c * b}. {c * b} + {a} = {c * b + a}.", c * b + a
    return number_item(f"{problem} How many {things} does {name} have now?", working, value)


def _bare(expression: str, value: int) -> Item:
    return number_item(f"What is {expression}?", f"{expression} = {value}.", value)


def _number(rng: Rng, digits: int) -> int:
    return rng.randint(10 ** (digits - 1), 10**digits - 1)
