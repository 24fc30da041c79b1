"""`math`: the final answer equals the reference, as a closed form and exactly.

Plain numbers are compared as exact rationals here; only what is no plain number goes to the algebra system, and only
after the filter of `router.verify.math_filter`.
"""

from __future__ import annotations

import msgspec

from router.enums import CheckClass
from router.errors import InvalidRequest
from router.quantity import Quantity
from router.verify.check_type import PASSED, CheckType, Judgement, failed, undecided
from router.verify.checks.numeric import number_answer
from router.verify.math_filter import NotAdmitted, NotRead
from router.verify.math_text import Form, admit_math, number_form, plain_number


class MathParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Fields of a `math` check. `allow_unevaluated` also accepts an answer that still has to be worked out."""

    reference: str
    allow_unevaluated: bool = False


def admit(params: MathParams) -> None:
    """Refuse references that no answer may have either: too long, too deep, a tower of powers, not closed.

    Raises `InvalidRequest`.
    """
    if plain_number(params.reference) is not None:
        return
    try:
        admit_math(params.reference, allow_unevaluated=params.allow_unevaluated)
    except NotAdmitted as refusal:
        raise InvalidRequest(str(refusal), param="reference") from refusal


def run(params: MathParams, text: str) -> Judgement:
    """Pass when the final answer is a closed form equal to the reference."""
    answer = number_answer(text)
    if answer.text is None:
        return failed(answer.missing.value if answer.missing else "no final answer")
    reference, stated = plain_number(params.reference), plain_number(answer.text)
    if stated is not None and (reference is None or reference.unit != stated.unit) and stated.unit in ("%", "°"):
        return failed("the unit differs")
    if reference is not None and stated is not None:
        if reference.missing_unit(stated):
            return failed("the unit differs")
        return PASSED if reference.value == stated.value else failed("the number differs")
    if reference is not None and not params.allow_unevaluated:
        return failed("the final answer is not a plain number, as the reference is")
    try:
        form = number_form(stated) if stated else admit_math(answer.text, allow_unevaluated=params.allow_unevaluated)
    except NotRead as refusal:
        return undecided(f"the final answer {refusal}")
    except NotAdmitted as refusal:
        return failed(f"the final answer {refusal}")
    return _by_algebra(params, reference, form)


def _by_algebra(params: MathParams, reference: Quantity | None, answer: Form) -> Judgement:
    # Imported here: the algebra system belongs in the worker, while `admit` runs in the serving process.
    from router.verify.algebra import Unparsable, equal  # noqa: PLC0415

    try:
        wanted = number_form(reference) if reference else admit_math(params.reference, allow_unevaluated=True)
        found = equal(wanted, answer, strict=not params.allow_unevaluated)
    except NotAdmitted as refusal:
        return undecided(f"the reference {refusal}")
    except Unparsable as problem:
        return undecided(str(problem))
    return PASSED if found else failed(found.why)


TYPE = CheckType("math", CheckClass.DECISIVE, "4", MathParams, admit, run)
