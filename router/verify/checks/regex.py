"""`regex`: the whole text, stripped, matches an RE2 pattern."""

from __future__ import annotations

from typing import Literal

import msgspec

from router.enums import CheckClass
from router.errors import InvalidRequest
from router.verify.check_type import PASSED, CheckType, Judgement, failed
from router.verify.linear_regex import LinearPattern, UnsupportedPattern


class RegexParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Fields of a `regex` check."""

    pattern: str
    match: Literal["full", "search"] = "full"


def admit(params: RegexParams) -> None:
    """Refuse patterns RE2 cannot take. Raises `InvalidRequest`."""
    try:
        LinearPattern(params.pattern)
    except UnsupportedPattern as error:
        raise InvalidRequest(str(error), param="pattern", code="unsupported_pattern") from error


def run(params: RegexParams, text: str) -> Judgement:
    """Pass when the pattern matches the stripped text."""
    pattern = LinearPattern(params.pattern)
    subject = text.strip()
    matched = pattern.fullmatch(subject) if params.match == "full" else pattern.search(subject)
    return PASSED if matched else failed("the pattern does not match")


TYPE = CheckType("regex", CheckClass.DECISIVE, "1", RegexParams, admit, run)
