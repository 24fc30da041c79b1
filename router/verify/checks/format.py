"""`format`: length, numbered steps, one final answer. It can veto and lower a score; a pass earns nothing."""

from __future__ import annotations

import re

import msgspec

from router.enums import CheckClass, Outcome
from router.errors import InvalidRequest
from router.extract import final_answer
from router.verify.check_type import CheckType, Judgement, failed

MAX_TOKENS = 1_000_000
MIN_STEPS = 2

_TOKEN = re.compile(r"\w+|[^\w\s]")
_STEP = re.compile(r"^[ \t]*+(?:[*#]++[ \t]*+)?(?:step[ \t]+)?(\d{1,3})[ \t]*[.):]", re.IGNORECASE | re.MULTILINE)


class FormatParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Fields of a `format` check. Tokens are words, runs of digits, and single other signs: no model's tokenizer."""

    max_tokens: int | None = None
    numbered_steps: bool = False
    single_final_answer: bool = False


def admit(params: FormatParams) -> None:
    """Refuse a check that asks for nothing, and lengths that no text can have. Raises `InvalidRequest`."""
    if params.max_tokens is not None and not 1 <= params.max_tokens <= MAX_TOKENS:
        raise InvalidRequest(f"must be 1 to {MAX_TOKENS}", param="max_tokens")
    if params.max_tokens is None and not params.numbered_steps and not params.single_final_answer:
        raise InvalidRequest("is needed, or numbered_steps, or single_final_answer", param="max_tokens")


def run(params: FormatParams, text: str) -> Judgement:
    """Pass, without a score, when the text has the form; else fail. Nobody is paid for looks alone."""
    if params.max_tokens is not None and sum(1 for _ in _TOKEN.finditer(text)) > params.max_tokens:
        return failed("longer than max_tokens")
    if params.numbered_steps and not _numbered(text):
        return failed("the steps are not numbered 1, 2, 3, ...")
    if params.single_final_answer:
        answer = final_answer(text)
        if answer.text is None:
            return failed(answer.missing.value if answer.missing else "no final answer")
    return Judgement(Outcome.PASS, None, "has the form asked for")


def _numbered(text: str) -> bool:
    """Whether the numbers that start lines are 1, 2, 3, ... without a gap, and at least two."""
    numbers = [int(found[1]) for found in _STEP.finditer(text)]
    return len(numbers) >= MIN_STEPS and numbers == list(range(1, len(numbers) + 1))


TYPE = CheckType("format", CheckClass.SOFT, "1", FormatParams, admit, run)
