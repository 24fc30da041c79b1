"""The `calculator` tool: one expression, worked out with exact rationals. No eval, bounded work."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

from router.errors import ToolError
from router.verify.arithmetic import Unreadable, evaluate

MAX_CHARS = 500
_DIGITS = 30  # significant digits of a value that has no short decimal form


class Calculator:
    """`router.ports.Tool` that works out `expression`."""

    async def call(self, arguments: Mapping[str, Any]) -> str:
        """The value, as a decimal where that is exact, else as a fraction beside its decimal. Raises `ToolError`."""
        expression = arguments.get("expression")
        if not isinstance(expression, str):
            raise ToolError("calculator needs `expression`, a string")
        return calculate(expression)


def calculate(expression: str) -> str:
    """The value of an expression as text. Takes milliseconds whatever is asked. Raises `ToolError`."""
    if len(expression) > MAX_CHARS:
        raise ToolError(f"the expression is longer than {MAX_CHARS} characters")
    try:
        return _text(evaluate(expression))
    except Unreadable as unreadable:
        raise ToolError(
            "not an expression that can be worked out: use numbers of at most 60 digits, + - * / ^ and parentheses;"
            " no words, no division by zero, no powers above 64, no values beyond 10^60"
        ) from unreadable


def _text(value: Fraction) -> str:
    if value.denominator == 1:
        return str(value.numerator)
    with localcontext() as context:
        context.prec = _DIGITS
        decimal = Decimal(value.numerator) / Decimal(value.denominator)
        exact = Fraction(decimal) == value
    return f"{decimal:f}" if exact else f"{value.numerator}/{value.denominator} = about {decimal}"
