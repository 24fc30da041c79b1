"""`numeric`: the final answer is a number within a tolerance of the reference."""

from __future__ import annotations

from fractions import Fraction

import msgspec

from router.enums import CheckClass
from router.errors import InvalidRequest
from router.extract import FinalAnswer, Missing, final_answer, last_number, stated_number
from router.quantity import Quantity, canonical_unit, exact_number, parse_quantity
from router.verify.check_type import PASSED, CheckType, Judgement, failed, undecided


class NumericParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Fields of a `numeric` check. `unit`, when given, has to be in the answer; without it a unit is not compared."""

    reference: int | float | str
    rtol: int | float = 0
    atol: int | float = 0
    unit: str | None = None


def admit(params: NumericParams) -> None:
    """Refuse references, tolerances and units that are no plain, finite numbers. Raises `InvalidRequest`."""
    reference = _reference(params)
    if reference is None:
        raise InvalidRequest("must be a plain finite number of at most 50 digits", param="reference")
    for name, bound in (("rtol", params.rtol), ("atol", params.atol)):
        if exact_number(bound) is None or bound < 0 or (name == "rtol" and bound >= 1):
            raise InvalidRequest(f"must be finite and {'in [0, 1)' if name == 'rtol' else '>= 0'}", param=name)
    if params.unit is not None:
        unit = canonical_unit(params.unit)
        if not unit:
            raise InvalidRequest("is not a unit", param="unit")
        if reference.unit not in ("", unit):
            raise InvalidRequest("contradicts the unit of the reference", param="unit")


def run(params: NumericParams, text: str) -> Judgement:
    """Pass when |answer - reference| <= max(atol, rtol * |reference|), exactly, and percent sign and unit agree."""
    reference = _reference(params)
    rtol, atol = exact_number(params.rtol), exact_number(params.atol)
    if reference is None or rtol is None or atol is None:
        return undecided("the reference is not a number")
    answer = number_answer(text)
    if answer.text is None:
        return failed(answer.missing.value if answer.missing else "no final answer")
    quantity = parse_quantity(stated_number(answer.text))
    if quantity is None:
        return failed("the final answer is not a plain number")
    unit = canonical_unit(params.unit) if params.unit is not None else None
    if (unit and quantity.unit != unit) or reference.missing_unit(quantity):
        return failed("the unit differs")
    if quantity.percent and "%" not in (unit, reference.unit):
        return failed("the answer is in percent, the reference is not")
    return PASSED if _close(quantity.value, reference.value, rtol, atol) else failed("the number differs")


def number_answer(text: str) -> FinalAnswer:
    """What `numeric` and `math` read: the marked final answer, else the last number."""
    answer = final_answer(text)
    return last_number(text) if answer.missing is Missing.UNMARKED else answer


def _close(value: Fraction, reference: Fraction, rtol: Fraction, atol: Fraction) -> bool:
    return abs(value - reference) <= max(atol, rtol * abs(reference))


def _reference(params: NumericParams) -> Quantity | None:
    if isinstance(params.reference, str):
        return parse_quantity(params.reference)
    value = exact_number(params.reference)
    return None if value is None else Quantity(value)


TYPE = CheckType("numeric", CheckClass.DECISIVE, "3", NumericParams, admit, run)
