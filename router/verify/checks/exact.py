"""`exact`: the final answer is one of the accepted strings."""

from __future__ import annotations

import re

import msgspec

from router.canonical import fold, plain_words
from router.enums import CheckClass
from router.errors import InvalidRequest
from router.extract import final_answer
from router.verify.check_type import PASSED, CheckType, Judgement, failed
from router.verify.limits import MAX_REFERENCE_CHARS

MAX_REFERENCES = 256
_WORTH = re.compile(r"\.\d.*|.*\d!")  # `.5` and `5!`: the punctuation is part of the number


class ExactParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Fields of an `exact` check. `normalize` compares NFKC, case-folded, without outer punctuation."""

    reference: str | list[str]
    normalize: bool = True


def admit(params: ExactParams) -> None:
    """Refuse references that are empty, too long or too many. Raises `InvalidRequest`."""
    references = _references(params)
    if not 1 <= len(references) <= MAX_REFERENCES:
        raise InvalidRequest(f"must hold 1 to {MAX_REFERENCES} strings", param="reference")
    if any(len(reference) > MAX_REFERENCE_CHARS for reference in references):
        raise InvalidRequest(f"must be at most {MAX_REFERENCE_CHARS} characters long", param="reference")
    if not all(_normal(reference, params.normalize) for reference in references):
        raise InvalidRequest("must not be empty (outer punctuation does not count)", param="reference")


def run(params: ExactParams, text: str) -> Judgement:
    """Pass when the whole final answer equals an accepted string."""
    answer = final_answer(text)
    if answer.text is None:
        return failed(answer.missing.value if answer.missing else "no final answer")
    stated = _normal(answer.text, params.normalize)
    accepted = {_normal(reference, params.normalize) for reference in _references(params)}
    return PASSED if stated in accepted else failed("the answer differs")


def _references(params: ExactParams) -> list[str]:
    return [params.reference] if isinstance(params.reference, str) else params.reference


def _normal(text: str, normalize: bool) -> str:
    if not normalize:
        return text.strip()
    words = plain_words(text)
    return words.casefold() if _WORTH.fullmatch(words) else fold(words)


TYPE = CheckType("exact", CheckClass.DECISIVE, "3", ExactParams, admit, run)
