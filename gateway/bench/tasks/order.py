"""Order: lists to sort, and the largest of a list."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.bench.tasks.item import Draw, Item, Rng, list_item, number_item

_NUMBERS = range(1, 100)


def sorted_numbers(length: int) -> Draw:
    """`length` different numbers below 100, to be put in ascending order."""

    def draw(rng: Rng) -> Item:
        numbers = rng.sample(_NUMBERS, length)
        problem = f"Sort these numbers from smallest to largest: {_listed(numbers)}."
        return list_item(problem, [str(number) for number in sorted(numbers)])

    return draw


def sorted_words(words: Sequence[str], length: int) -> Draw:
    """`length` different words, to be put in alphabetical order."""

    def draw(rng: Rng) -> Item:
        drawn = rng.sample(words, length)
        return list_item(f"Sort these words alphabetically: {_listed(drawn)}.", sorted(drawn))

    return draw


def largest(length: int) -> Draw:
    """The largest of `length` different numbers below 100."""

    def draw(rng: Rng) -> Item:
        numbers = rng.sample(_NUMBERS, length)
        value = max(numbers)
        return number_item(
            f"Which of these numbers is the largest: {_listed(numbers)}?", f"The largest is {value}.", value
        )

    return draw


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(str, values))
