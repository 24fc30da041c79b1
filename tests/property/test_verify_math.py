"""Metamorphic properties of the `math` check: what may change in an answer without changing the verdict."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from router.enums import Outcome
from router.verify.pure import PURE_TYPES

MATH = PURE_TYPES["math"]
ATOMS = [
    r"\frac{1}{2}",
    r"\sqrt{3}",
    r"\pi",
    "7",
    "-4",
    "0.25",
    r"\frac{\sqrt{2}}{3}",
    "x+1",
    r"2\pi",
    "x^{2}",
    r"-\sqrt{5}",
]
atoms = st.sampled_from(ATOMS)
# Algebra takes milliseconds an example and far more on a loaded machine.
slow = settings(deadline=None, max_examples=25)


def outcome(reference: str, answer: str, **fields: Any) -> Outcome:
    params = msgspec.convert({"reference": reference, **fields}, MATH.params)
    return MATH.run(params, rf"\boxed{{{answer}}}").outcome


@slow
@given(atoms, atoms)
def test_only_equals_are_accepted(first: str, second: str) -> None:
    assert outcome(first, second) is (Outcome.PASS if first == second else Outcome.FAIL)


@slow
@given(
    atoms, atoms, st.sampled_from([" ", r"\,", r"\ ", "~"]), st.sampled_from([("$", "$"), (r"\(", r"\)"), ("", ".")])
)
def test_dressing_does_not_matter(first: str, second: str, space: str, wrapper: tuple[str, str]) -> None:
    dressed = second.replace("+", f"{space}+{space}").replace(r"\frac", r"\dfrac")
    dressed = f"{wrapper[0]}{space}{dressed}{space}{wrapper[1]}"
    assert outcome(first, dressed) is outcome(first, second)


@slow
@given(st.lists(atoms, min_size=2, max_size=4, unique=True), st.randoms(), st.booleans())
def test_members_of_a_set_have_no_order_and_those_of_a_tuple_do(members: list[str], random: Any, braces: bool) -> None:
    shuffled = list(members)
    random.shuffle(shuffled)
    reference, answer = ", ".join(members), ", ".join(shuffled)
    stated = rf"\{{{answer}\}}" if braces else answer
    assert outcome(rf"\{{{reference}\}}", stated) is Outcome.PASS
    in_order = Outcome.PASS if shuffled == members else Outcome.FAIL
    assert outcome(f"({reference})", f"({answer})") is in_order
    assert outcome(f"({reference})", answer) is Outcome.FAIL


@slow
@given(st.lists(atoms, min_size=2, max_size=4, unique=True), atoms)
def test_a_set_with_another_member_is_another_set(members: list[str], other: str) -> None:
    assume(other not in members)
    reference = ", ".join(members)
    assert outcome(reference, ", ".join([*members, other])) is Outcome.FAIL
    assert outcome(reference, ", ".join(members[1:])) is not Outcome.PASS
    assert outcome(reference, ", ".join([*members[1:], other])) is Outcome.FAIL


@slow
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(["+", r"\cdot", r"\times", "*", "-"]))
def test_arithmetic_left_to_do_never_passes(first: int, second: int, operator: str) -> None:
    value = {"+": first + second, "-": first - second}.get(operator, first * second)
    expression = f"{first} {operator} {second}"
    assert outcome(str(value), expression) is Outcome.FAIL
    assert outcome(str(value), expression, allow_unevaluated=True) is Outcome.PASS
    assert outcome(str(value + 1), expression, allow_unevaluated=True) is Outcome.FAIL


@slow
@given(atoms, st.integers(2, 40))
def test_a_tiny_difference_is_a_difference(atom: str, exponent: int) -> None:
    assert outcome(atom, f"{atom} + 10^{{-{exponent}}}", allow_unevaluated=True) is Outcome.FAIL


@slow
@given(st.text(alphabet=r"0123456789xy+-*/^(){}[]\,.=<> fracsqrtpi", max_size=40))
def test_no_text_raises_out_of_the_check_unless_the_algebra_does(text: str) -> None:
    assert outcome(r"\sqrt{2}+\pi^{7}", text) in (Outcome.FAIL, Outcome.ERROR)
