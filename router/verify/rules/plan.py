"""Rules for plans and lists: required and forbidden items, order, counts, ranges, sums, uniqueness."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TypeAlias

from router.quantity import exact_number
from router.verify.limits import MAX_REFERENCE_CHARS
from router.verify.rules.rule import ITEMS, MAX_ITEMS, Answer, Rule, admit_pointer, key, keys_of

Item: TypeAlias = str | int | float | bool
Number: TypeAlias = int | float


class _OnItems(Rule, frozen=True):
    """A rule about named items among the values at a pointer."""

    items: list[Item]
    at: str = ITEMS

    def admit(self) -> None:
        """See `Rule`."""
        admit_pointer(self.at)
        if not 1 <= len(self.items) <= MAX_ITEMS:
            raise ValueError(f"needs 1 to {MAX_ITEMS} items")
        if any(isinstance(item, str) and not 0 < len(item) <= MAX_REFERENCE_CHARS for item in self.items):
            raise ValueError(f"needs items of 1 to {MAX_REFERENCE_CHARS} characters")
        if any(isinstance(item, int | float) and exact_number(item) is None for item in self.items):
            raise ValueError("needs items that are finite numbers of at most 50 digits")
        if len({key(item) for item in self.items}) != len(self.items):
            raise ValueError("needs items that differ from each other")


class Required(_OnItems, frozen=True, tag="required"):
    """Every item occurs."""

    def holds(self, answer: Answer) -> bool:
        """See `Rule`."""
        return {key(item) for item in self.items} <= set(answer.keys_at(self.at))


class Forbidden(_OnItems, frozen=True, tag="forbidden"):
    """No item occurs."""

    def holds(self, answer: Answer) -> bool:
        """See `Rule`."""
        barred = set().union(*map(keys_of, self.items))
        return all(barred.isdisjoint(keys_of(value)) for value in answer.at(self.at))


class Allowed(_OnItems, frozen=True, tag="allowed"):
    """Nothing but these items occurs."""

    def holds(self, answer: Answer) -> bool:
        """See `Rule`."""
        return {key(item) for item in self.items}.issuperset(answer.keys_at(self.at))


class Order(_OnItems, frozen=True, tag="order"):
    """The items that occur do so in this order: each only after the last occurrence of those before it."""

    def holds(self, answer: Answer) -> bool:
        """See `Rule`."""
        rank = {key(item): index for index, item in enumerate(self.items)}
        found = [rank[value] for value in answer.keys_at(self.at) if value in rank]
        return found == sorted(found)


class Unique(Rule, frozen=True, tag="unique"):
    """No value occurs twice."""

    at: str = ITEMS

    def admit(self) -> None:
        """See `Rule`."""
        admit_pointer(self.at)

    def holds(self, answer: Answer) -> bool:
        """See `Rule`."""
        values = answer.keys_at(self.at)
        return len(set(values)) == len(values)


class _Bounded(Rule, frozen=True):
    """A rule with bounds, both inclusive; at least one is given."""

    min: Number | None = None
    max: Number | None = None
    at: str = ITEMS

    def admit(self) -> None:
        """See `Rule`."""
        admit_pointer(self.at)
        bounds = [bound for bound in (self.min, self.max) if bound is not None]
        if not bounds:
            raise ValueError("needs min, max or both")
        if any(exact_number(bound) is None for bound in bounds):
            raise ValueError("needs bounds that are finite numbers of at most 50 digits")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("has min above max")

    def within(self, value: Fraction | int) -> bool:
        """Whether a value lies within the bounds, exactly."""
        low = None if self.min is None else exact_number(self.min)
        high = None if self.max is None else exact_number(self.max)
        return (low is None or low <= value) and (high is None or value <= high)


class Count(_Bounded, frozen=True, tag="count"):
    """How many values there are."""

    def holds(self, answer: Answer) -> bool:
        """See `Rule`."""
        return self.within(len(answer.at(self.at)))


class Range(_Bounded, frozen=True, tag="range"):
    """Every value is a number within the bounds, and there is one."""

    def holds(self, answer: Answer) -> bool:
        """See `Rule`."""
        values = answer.numbers_at(self.at)
        return bool(values) and all(self.within(value) for value in values)


class Sum(_Bounded, frozen=True, tag="sum"):
    """The values are numbers whose exact sum lies within the bounds."""

    def holds(self, answer: Answer) -> bool:
        """See `Rule`."""
        return self.within(_total(answer.numbers_at(self.at)))


def _total(values: Sequence[Fraction]) -> Fraction:
    return sum(values, Fraction(0))
