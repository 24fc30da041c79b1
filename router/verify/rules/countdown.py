"""Countdown: reach a target with the given numbers, each used at most once, and the four operations."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

from router.extract import final_answer
from router.verify.arithmetic import Unreadable, calculation
from router.verify.rules.rule import Answer, Rule, Unmet

MAX_NUMBERS = 16
MAX_NUMBER = 10**9


class Countdown(Rule, frozen=True, tag="countdown"):
    """The final answer is a calculation with the value `target`, whole or followed by `= target`.

    Numbers may be joined by + - * / and brackets; values in between may be negative or fractions. With `use_all` each
    number is used exactly once.
    """

    numbers: list[int]
    target: int
    use_all: bool = False

    def admit(self) -> None:
        """See `Rule`."""
        if not 1 <= len(self.numbers) <= MAX_NUMBERS:
            raise ValueError(f"needs 1 to {MAX_NUMBERS} numbers")
        if not all(0 < number <= MAX_NUMBER for number in self.numbers) or abs(self.target) > MAX_NUMBER:
            raise ValueError(f"needs whole numbers of 1 to {MAX_NUMBER:,}")

    def holds(self, answer: Answer) -> bool:
        """See `Rule`."""
        stated = final_answer(answer.text).text
        if stated is None:
            raise Unmet("has no final answer")
        try:
            values, used = calculation(stated)
        except Unreadable as error:
            raise Unmet("is no calculation") from error
        if any(value != self.target for value in values):
            return False
        given, taken = Counter(map(Fraction, self.numbers)), Counter(used)
        return taken == given if self.use_all else taken <= given
