"""The calculator against Python's own rationals, and any text at all."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from router.calculator import calculate
from router.errors import ToolError

NUMBERS = st.integers(0, 999).map(str) | st.decimals("0", "99", places=2).map(str)
EXPRESSIONS = st.recursive(
    NUMBERS,
    lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda parts: f"({' '.join(parts)})"),
    max_leaves=8,
)


def value_of(said: str) -> Fraction:
    exact, _, _ = said.partition(" = about ")
    return Fraction(exact)


@given(EXPRESSIONS)
def test_a_value_is_that_of_exact_rationals(expression: str) -> None:
    """The reference is Python's own parser over fractions; the text is made of digits, operators and brackets only."""
    exact = "".join(f"Fraction('{part}')" if part[:1].isdigit() else part for part in _parts(expression))
    try:
        expected = eval(exact, {"__builtins__": {}, "Fraction": Fraction})
    except ZeroDivisionError:
        expected = None
    try:
        assert value_of(calculate(expression)) == expected
    except ToolError:
        assert expected is None


def _parts(expression: str) -> list[str]:
    return expression.replace("(", " ( ").replace(")", " ) ").split()


@given(st.text("0123456789+-*/^%().,= x\\frac{}$≈", max_size=500) | st.text(max_size=100))
def test_any_text_is_worked_out_or_refused(text: str) -> None:
    try:
        value_of(calculate(text))
    except ToolError as refused:
        assert "not an expression" in str(refused)
