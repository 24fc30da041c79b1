"""`arithmetic_steps`: every equation between numbers in the text is worked out again, exactly."""

from __future__ import annotations

import msgspec

from router.enums import CheckClass, Outcome
from router.errors import InvalidRequest
from router.quantity import exact_number
from router.verify.arithmetic import Equation, equations
from router.verify.check_type import CheckType, Judgement


class ArithmeticStepsParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Fields of an `arithmetic_steps` check. `min_coverage`: least share of the equations that we can read."""

    min_coverage: int | float = 0


def admit(params: ArithmeticStepsParams) -> None:
    """Refuse a coverage outside [0, 1]. Raises `InvalidRequest`."""
    coverage = exact_number(params.min_coverage)
    if coverage is None or not 0 <= coverage <= 1:
        raise InvalidRequest("must be in [0, 1]", param="min_coverage")


def run(params: ArithmeticStepsParams, text: str) -> Judgement:
    """Pass when all equations we can read hold and they are enough of those there are; score = share that holds.

    A text without equations is skipped: there is nothing to judge.
    """
    found = equations(text)
    checked = [equation for equation in found if equation is not Equation.UNREADABLE]
    coverage = len(checked) / len(found) if found else None
    if coverage is None or (not checked and params.min_coverage == 0):
        return Judgement(Outcome.SKIPPED, None, "no equation to check", coverage=coverage)
    share = checked.count(Equation.HOLDS) / len(checked) if checked else 0.0
    detail = f"{checked.count(Equation.HOLDS)} of {len(checked)} equations hold, coverage {coverage:.2f}"
    passed = share == 1.0 and coverage >= params.min_coverage
    return Judgement(Outcome.PASS if passed else Outcome.FAIL, share, detail, coverage=coverage)


TYPE = CheckType("arithmetic_steps", CheckClass.PROCESS, "1", ArithmeticStepsParams, admit, run)
