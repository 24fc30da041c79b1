"""LaTeX and plain formulas evaluated as floating-point numbers of 60 digits at fixed points. No algebra system.

A recursive descent over tokens; whatever it does not know is `Unreadable`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import mpmath

from router.verify.second.reading import Unreadable

DIGITS = 60

_TOKEN = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+|\\[A-Za-z]+|[A-Za-z]|[-+*/^_(){}\[\]|!,])")
_NAMES = re.compile(r"(?<![\\A-Za-z])(arcsin|arccos|arctan|sinh|cosh|tanh|sqrt|sin|cos|tan|log|ln|exp|pi)(?![A-Za-z])")
_FUNCTIONS: Mapping[str, Any] = MappingProxyType(
    {
        f"\\{name}": function
        for name, function in {
            "sin": mpmath.sin, "cos": mpmath.cos, "tan": mpmath.tan, "cot": mpmath.cot, "sec": mpmath.sec,
            "csc": mpmath.csc, "arcsin": mpmath.asin, "arccos": mpmath.acos, "arctan": mpmath.atan,
            "sinh": mpmath.sinh, "cosh": mpmath.cosh, "tanh": mpmath.tanh, "ln": mpmath.log, "exp": mpmath.exp,
        }.items()
    }
)  # fmt: skip
_TIMES = frozenset({"*", "\\cdot", "\\times"})
_ENDS = frozenset({")", "}", "]", ",", "+", "-", "|", ""})


def evaluate(text: str, shift: int) -> Any:
    """The value of a formula with every letter at a fixed point that depends on the letter and on `shift`.

    Raises `Unreadable`.
    """
    text = text.replace("\\left", "").replace("\\right", "").replace("**", "^").replace("−", "-").replace("π", "\\pi ")
    text = re.sub(r"\\[dtc]frac", r"\\frac", _NAMES.sub(r"\\\1 ", text))
    tokens: list[str] = []
    position = 0
    text = text.strip()
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise Unreadable("an unknown sign")
        tokens.append(found[1])
        position = found.end()
    with mpmath.workdps(DIGITS):
        try:
            value = _Parser(tokens, shift).whole()
        except (ArithmeticError, ValueError) as error:
            raise Unreadable("no value") from error
        if not mpmath.isfinite(value):
            raise Unreadable("no value")
        return value


class _Parser:
    def __init__(self, tokens: list[str], shift: int) -> None:
        self._tokens, self._shift, self._at = tokens, shift, 0

    def whole(self) -> Any:
        value = self._sum()
        if self._at < len(self._tokens):
            raise Unreadable("something is left over")
        return value

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _next(self) -> str:
        token = self._peek()
        self._at += 1
        return token

    def _expect(self, token: str) -> None:
        if self._next() != token:
            raise Unreadable(f"no {token}")

    def _sum(self) -> Any:
        value = self._product()
        while self._peek() in ("+", "-"):
            value = value + self._product() if self._next() == "+" else value - self._product()
        return value

    def _product(self) -> Any:
        value = self._signed()
        while self._peek() not in _ENDS:
            token = self._peek()
            if token in ("/", "\\div"):
                self._next()
                value = value / self._signed()
            elif token in _TIMES:
                self._next()
                value = value * self._signed()
            elif token[0].isdigit() or token in ("!", "^", "_"):
                raise Unreadable("two numbers in a row")
            else:
                value = value * self._power()
        return value

    def _signed(self) -> Any:
        if self._peek() in ("+", "-"):
            return -self._signed() if self._next() == "-" else self._signed()
        return self._power()

    def _power(self) -> Any:
        value = self._atom()
        while self._peek() == "!":
            self._next()
            value = mpmath.gamma(value + 1)
        if self._peek() == "^":
            self._next()
            value = mpmath.power(value, self._argument())
        return value

    def _argument(self) -> Any:
        """What a command or a caret takes: a group, or one sign; a plain exponent may carry a minus."""
        if self._peek() == "{":
            return self._group("{", "}")
        if self._peek() == "-":
            self._next()
            return -self._atom()
        token = self._peek()
        if token.isdigit() and len(token) > 1 and self._tokens[self._at - 1] != "^":  # \frac12
            self._tokens[self._at : self._at + 1] = list(token)
        return self._atom()

    def _group(self, opening: str, closing: str) -> Any:
        self._expect(opening)
        value = self._sum()
        self._expect(closing)
        return value

    def _atom(self) -> Any:
        token = self._next()
        if token and (token[0].isdigit() or token[0] == "."):
            return mpmath.mpf(token)
        if token in ("(", "[", "{", "|"):
            self._at -= 1
            value = self._group(token, {"(": ")", "[": "]", "{": "}", "|": "|"}[token])
            return abs(value) if token == "|" else value
        if token == "\\frac":
            over = self._argument()
            return over / self._argument()
        if token == "\\sqrt":
            degree = self._group("[", "]") if self._peek() == "[" else mpmath.mpf(2)
            inner = self._atom() if self._peek() == "(" else self._argument()
            return mpmath.power(inner, 1 / degree)
        if token in _FUNCTIONS or token == "\\log":
            return self._function(token)
        return self._letter(token)

    def _function(self, token: str) -> Any:
        base = mpmath.mpf(10)
        power = None
        if token == "\\log" and self._peek() == "_":
            self._next()
            base = self._argument()
        if self._peek() == "^":
            self._next()
            power = self._argument()
        inner = self._argument() if self._peek() == "{" else self._power()
        value = mpmath.log(inner) / mpmath.log(base) if token == "\\log" else _FUNCTIONS[token](inner)
        return value if power is None else mpmath.power(value, power)

    def _letter(self, token: str) -> Any:
        if token == "\\pi":
            return mpmath.pi()
        if token in ("e", "i"):
            return mpmath.e() if token == "e" else mpmath.mpc(0, 1)
        if (len(token) == 1 and token.isalpha()) or token[1:] in ("alpha", "beta", "gamma", "theta", "lambda", "mu"):
            name = token
            if self._peek() == "_":
                self._next()
                name += str(self._argument())
            seed = sum(ord(char) * (index + 1) for index, char in enumerate(name))
            return mpmath.mpf(seed % 89 + 2 + 7 * self._shift) / 31 + mpmath.sqrt(seed % 13 + 2)
        raise Unreadable("an unknown command")
