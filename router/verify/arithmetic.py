"""Equations between numbers in running text, worked out with exact rationals. No eval, no algebra, bounded work."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

MAX_EQUATIONS = 200
MAX_NODES = 64
MAX_DIGITS = 60
MAX_EXPONENT = 64
MAX_NESTING = 32

_TOKEN = re.compile(
    r"(?P<number>\d+(?:,\d+)*(?:\.\d+)?|\.\d+)|(?P<sign>=|≈|\\approx|~=)|(?P<operator>\*\*|[-+*/^×÷·⋅−(){}%]|x(?![A-Za-z_])|\\times|\\cdot|\\div)"
    r"|(?P<space>[ \t]+|\\[,!;]|\\left|\\right|\\quad|[$€£])|(?P<word>[A-Za-z_]\w*|\\[A-Za-z]+|.)"
)
_FRACTION = re.compile(r"\\[dtc]?frac\{([^{}]{1,40})\}\{([^{}]{1,40})\}")
_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_PUNCTUATION = frozenset("<>,;.:!?\"'")
_SAME = {"×": "*", "x": "*", "·": "*", "⋅": "*", "\\times": "*", "\\cdot": "*", "÷": "/", "\\div": "/"}
_SAME |= {"−": "-", "**": "^", "{": "(", "}": ")"}


class Equation(Enum):
    """What became of one equation."""

    HOLDS = "holds"
    WRONG = "wrong"
    UNREADABLE = "unreadable"


class Unreadable(Exception):
    """Not an expression of numbers, or over our bounds."""


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    touches: bool  # no space between it and the token before


def equations(text: str) -> list[Equation]:
    """One verdict for each `a = b` in `text` where a side has an operation; `a = b = c` is two. At most 200."""
    found: list[Equation] = []
    for line in text.splitlines():
        if "=" not in line and "≈" not in line and "approx" not in line:
            continue
        for run in _runs(line):
            for left, sign, right in _pairs(run):
                found.append(_judge(left, sign, right))
                if len(found) >= MAX_EQUATIONS:
                    return found
    return found


def calculation(text: str) -> tuple[list[Fraction], list[Fraction]]:
    """The values of the sides of `a = b = ...` (one when there is no sign), and the numbers of the first side.

    Only + - * / and brackets count as operations. Raises `Unreadable`.
    """
    sides: list[list[_Token]] = [[]]
    for token in _only_run(text):
        if token.text == "=":
            sides.append([])
        elif token.kind == "sign" or _SAME.get(token.text, token.text) in ("^", "%"):
            raise Unreadable
        else:
            sides[-1].append(token)
    values = [_Evaluator(side).value() for side in sides]
    return values, [_number(token.text) for token in sides[0] if token.kind == "number"]


def evaluate(expression: str) -> Fraction:
    """The exact value of one expression, in the whole notation of `equations`. Raises `Unreadable`."""
    run = _only_run(expression)
    if any(token.kind == "sign" for token in run):
        raise Unreadable
    return _Evaluator(run).value()


def _only_run(text: str) -> list[_Token]:
    runs = [run for run in _runs(text) if run]
    if len(runs) != 1:
        raise Unreadable
    return runs[0]


def _runs(line: str) -> Iterator[list[_Token]]:
    """The stretches of a line between words; a stretch that a variable touches starts or ends with that word."""
    for _ in range(4):
        line = _FRACTION.sub(r"((\1)/(\2))", line)
    run: list[_Token] = []
    touching = False
    for match in _TOKEN.finditer(line):
        kind = match.lastgroup or "word"
        if kind == "space":
            touching = False
            continue
        token = _Token(kind, match[0], touching)
        touching = True
        if kind == "word" and match[0] not in _PUNCTUATION:
            run.append(token)
            yield run
            run = [token]
        elif kind == "word":
            yield run
            run = []
        else:
            run.append(token)
    yield run


def _pairs(run: list[_Token]) -> Iterator[tuple[list[_Token], str, list[_Token]]]:
    sides: list[list[_Token]] = [[]]
    signs: list[str] = []
    for token in run:
        if token.kind == "sign":
            signs.append(token.text)
            sides.append([])
        else:
            sides[-1].append(token)
    for index, sign in enumerate(signs):
        left, right = _without_left_word(sides[index]), _without_right_word(sides[index + 1])
        if left and right and _has_operation(left, right):
            yield left, sign, right


def _without_left_word(side: list[_Token]) -> list[_Token]:
    """A word before an expression does not belong to it, unless an operator or no space joins them (`x + 3`)."""
    if side and side[0].kind == "word":
        rest = side[1:]
        joined = rest and (rest[0].touches or (rest[0].kind == "operator" and rest[0].text not in "({-−"))
        return side if joined else rest
    return side


def _without_right_word(side: list[_Token]) -> list[_Token]:
    """A word after a result is its unit, unless an operator or no space joins them (`3 + x`, `7x`)."""
    if side and side[-1].kind == "word":
        rest = side[:-1]
        joined = side[-1].touches or (rest and rest[-1].kind == "operator" and rest[-1].text not in ")}%")
        return side if joined else rest
    return side


def _has_operation(left: list[_Token], right: list[_Token]) -> bool:
    return any(token.kind == "operator" and token.text not in "){}" for token in (*left[1:], *right[1:]))


def _judge(left: list[_Token], sign: str, right: list[_Token]) -> Equation:
    try:
        first, second = _Evaluator(left).value(), _Evaluator(right).value()
    except Unreadable:
        return Equation.UNREADABLE
    if first == second:
        return Equation.HOLDS
    rounded = sign != "=" and abs(first - second) <= Fraction(1, 2 * 10 ** _places(left, right))
    return Equation.HOLDS if rounded else Equation.WRONG


def _places(left: list[_Token], right: list[_Token]) -> int:
    """Decimal places of the side that is one number: what `≈` was rounded to."""
    for side in (right, left):
        if len(side) == 1:
            return len(side[0].text.partition(".")[2])
    return max(len(token.text.partition(".")[2]) for token in (*left, *right) if token.kind == "number")


class _Evaluator:
    """Recursive descent over one side: sums of products of powers, with percent and brackets."""

    def __init__(self, tokens: list[_Token]) -> None:
        if len(tokens) > MAX_NODES or sum(len(t.text) for t in tokens if t.kind == "number") > 4 * MAX_DIGITS:
            raise Unreadable
        if any(token.kind == "word" for token in tokens):
            raise Unreadable
        self._tokens = [(t.kind, _SAME.get(t.text, t.text)) for t in tokens]
        self._at = 0
        self._level = 0

    def value(self) -> Fraction:
        """The value of the whole side. Raises `Unreadable`."""
        result = self._sum()
        if self._at != len(self._tokens):
            raise Unreadable
        return result

    def _next(self) -> str:
        return self._tokens[self._at][1] if self._at < len(self._tokens) else ""

    def _take(self) -> str:
        text = self._next()
        self._at += 1
        return text

    def _sum(self) -> Fraction:
        result = self._product()
        while self._next() in ("+", "-"):
            result = result + self._product() if self._take() == "+" else result - self._product()
        return result

    def _product(self) -> Fraction:
        result = self._signed()
        while self._next() in ("*", "/", "("):
            operator = self._take() if self._next() != "(" else "*"
            factor = self._signed()
            if operator == "/" and factor == 0:
                raise Unreadable
            result = result * factor if operator == "*" else result / factor
            if max(abs(result.numerator), result.denominator) > 10**MAX_DIGITS:
                raise Unreadable
        return result

    def _signed(self) -> Fraction:
        if self._next() in ("-", "+"):
            return -self._power() if self._take() == "-" else self._power()
        return self._power()

    def _power(self) -> Fraction:
        base = self._atom()
        if self._next() != "^":
            return base
        self._take()
        exponent = self._signed_atom()
        if exponent.denominator != 1 or abs(exponent) > MAX_EXPONENT or (base == 0 and exponent < 0):
            raise Unreadable
        if max(abs(base.numerator), base.denominator) ** min(abs(exponent.numerator), MAX_EXPONENT) > 10**MAX_DIGITS:
            raise Unreadable
        return Fraction(base ** int(exponent))

    def _signed_atom(self) -> Fraction:
        if self._next() == "-":
            self._take()
            return -self._atom()
        return self._atom()

    def _atom(self) -> Fraction:
        kind, text = self._tokens[self._at] if self._at < len(self._tokens) else ("", "")
        self._at += 1
        if kind == "number":
            result = _number(text)
        elif text == "(" and self._level < MAX_NESTING:
            self._level += 1
            result = self._sum()
            self._level -= 1
            if self._take() != ")":
                raise Unreadable
        else:
            raise Unreadable
        while self._next() == "%":
            self._take()
            result /= 100
        return result


def _number(text: str) -> Fraction:
    if len(text) > MAX_DIGITS or not text.isascii() or ("," in text and _GROUPED.fullmatch(text) is None):
        raise Unreadable
    return Fraction(text.replace(",", ""))
