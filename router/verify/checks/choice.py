"""`choice`: the final answer is the reference's option, by its letter or its whole text."""

from __future__ import annotations

import string

import msgspec

from router.canonical import choice_letter, fold, plain_words
from router.enums import CheckClass
from router.errors import InvalidRequest
from router.extract import final_answer
from router.verify.check_type import PASSED, CheckType, Judgement, failed
from router.verify.limits import MAX_REFERENCE_CHARS


class ChoiceParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Fields of a `choice` check. `options` are texts in the order of their letters, or texts by letter."""

    reference: str
    options: list[str] | dict[str, str] | None = None


def admit(params: ChoiceParams) -> None:
    """Refuse references that name no option and options that cannot be told apart. Raises `InvalidRequest`."""
    options = _options(params)
    if params.options is not None:
        if not 2 <= len(params.options) <= len(string.ascii_uppercase):
            raise InvalidRequest("must hold 2 to 26 options", param="options")
        if not all(_is_letter(label) for label in options) or len(options) != len(params.options):
            raise InvalidRequest("must be labelled with different single letters", param="options")
        if any(len(text) > MAX_REFERENCE_CHARS for text in options.values()):
            raise InvalidRequest(f"must be at most {MAX_REFERENCE_CHARS} characters long each", param="options")
        if len({fold(text) for text in options.values()}) != len(options):
            raise InvalidRequest("must differ from each other", param="options")
    if _reference_letter(params, options) is None:
        raise InvalidRequest("must be an option's letter, or its text with options given", param="reference")


def run(params: ChoiceParams, text: str) -> Judgement:
    """Pass when the final answer names the reference's option and no other."""
    answer = final_answer(text)
    if answer.text is None:
        return failed(answer.missing.value if answer.missing else "no final answer")
    options = _options(params)
    chosen = _chosen(plain_words(answer.text), options)
    if chosen is None or (options and chosen not in options):
        return failed("the final answer is not one choice")
    return PASSED if chosen == _reference_letter(params, options) else failed("another choice")


def _chosen(answer: str, options: dict[str, str]) -> str | None:
    """The letter of the one option that `answer` names; a letter beside another option's text names two."""
    folded = fold(answer)
    for letter, text in options.items():
        if folded == fold(text):
            return letter
    if options and len(answer) > 1 and answer.lstrip("([")[:1].isalpha():
        bare = answer.lstrip("([")
        letter, rest = bare[0].upper(), bare[1:]
        if rest[:1] in set(")].:") and letter in options and fold(rest.lstrip(")].:")) == fold(options[letter]):
            return letter
    letter_only = choice_letter(answer)
    if letter_only is None or not options:
        return letter_only
    named = fold(answer.lstrip("([")[1:].lstrip(")].:"))
    return letter_only if named == "" else None


def _options(params: ChoiceParams) -> dict[str, str]:
    if params.options is None:
        return {}
    if isinstance(params.options, dict):
        return {label.strip().upper(): text for label, text in params.options.items()}
    return dict(zip(string.ascii_uppercase, params.options, strict=False))


def _reference_letter(params: ChoiceParams, options: dict[str, str]) -> str | None:
    by_text = {fold(text): letter for letter, text in options.items()}
    folded = fold(params.reference)
    if folded in by_text:
        return by_text[folded]
    letter = params.reference.strip(" ().[]:").upper()
    return letter if _is_letter(letter) and (not options or letter in options) else None


def _is_letter(label: str) -> bool:
    return len(label) == 1 and label in string.ascii_uppercase


TYPE = CheckType("choice", CheckClass.DECISIVE, "2", ChoiceParams, admit, run)
