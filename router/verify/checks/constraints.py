"""`constraints`: the answer keeps every rule. The rules are `router.verify.rules`."""

from __future__ import annotations

import msgspec

from router.enums import CheckClass, Outcome
from router.errors import InvalidRequest
from router.verify.check_type import PASSED, CheckType, Judgement
from router.verify.rules.registry import AnyRule
from router.verify.rules.rule import Answer, Unmet

MAX_RULES = 64


class ConstraintsParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Fields of a `constraints` check."""

    rules: list[AnyRule]


def admit(params: ConstraintsParams) -> None:
    """Refuse rules that cannot be judged. Raises `InvalidRequest`."""
    if not 1 <= len(params.rules) <= MAX_RULES:
        raise InvalidRequest(f"must hold 1 to {MAX_RULES} rules", param="rules")
    for index, rule in enumerate(params.rules):
        try:
            rule.admit()
        except ValueError as error:
            name = rule.__struct_config__.tag
            raise InvalidRequest(f"({name}) {error}", param=f"rules[{index}]") from error


def run(params: ConstraintsParams, text: str) -> Judgement:
    """Pass when every rule holds; score = share of the rules that do."""
    answer = Answer(text)
    broken: list[str] = []
    for index, rule in enumerate(params.rules):
        why = _broken(rule, answer)
        if why is not None:
            broken.append(f"{index} ({rule.__struct_config__.tag}) {why}")
    if not broken:
        return PASSED
    kept = len(params.rules) - len(broken)
    return Judgement(Outcome.FAIL, kept / len(params.rules), f"rule {'; rule '.join(broken)}")


def _broken(rule: AnyRule, answer: Answer) -> str | None:
    """Why a rule does not hold, or None when it does."""
    try:
        return None if rule.holds(answer) else "is broken"
    except Unmet as unmet:
        return f"cannot hold: the answer {unmet}"


TYPE = CheckType("constraints", CheckClass.DECISIVE, "3", ConstraintsParams, admit, run)
