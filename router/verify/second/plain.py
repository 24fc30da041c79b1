"""The second verifiers of `numeric`, `exact`, `choice` and `regex`: the standard library alone."""

from __future__ import annotations

import re
import string
from fractions import Fraction

from router.verify.checks.choice import ChoiceParams
from router.verify.checks.exact import ExactParams
from router.verify.checks.numeric import NumericParams
from router.verify.checks.regex import RegexParams
from router.verify.second import pattern
from router.verify.second.number import final, read
from router.verify.second.reading import Unreadable, stated
from router.verify.second.words import place, same_words

_LETTER = re.compile(r"[(\[]?([A-Za-z])(?:[)\].:](?:\s+(\S.*))?)?", re.DOTALL)
_DRESSED = re.compile(r"\\(?:text|mathrm|textbf|mathbf)\s*\{([^{}]*)\}|\$([^$]*)\$|\*\*([^*]*)\*\*|\\\((.*)\\\)")


def numeric(params: NumericParams, text: str) -> bool:
    """The number that is stated lies within the tolerance, and has the unit asked for, letter by letter."""
    answer, reference = final(text), read(str(params.reference))
    wanted = reference.unit if params.unit is None else params.unit.strip().casefold()
    if (answer.unit == "%") != (wanted == "%"):
        return False
    if wanted and answer.unit != wanted:
        raise Unreadable("a unit in other words")
    allowed = max(Fraction(str(params.atol)), Fraction(str(params.rtol)) * abs(reference.value))
    return abs(answer.value - reference.value) <= allowed


def exact(params: ExactParams, text: str) -> bool:
    """What is stated is one of the references, letter by letter or folded."""
    references = [params.reference] if isinstance(params.reference, str) else params.reference
    answer = stated(text)
    if not params.normalize:
        return answer.strip() in {reference.strip() for reference in references}
    return place(answer, references) is not None


def choice(params: ChoiceParams, text: str) -> bool:
    """What is stated is the reference's letter, its text, or both; beside a letter nothing else may stand."""
    options = params.options or {}
    by_letter = options if isinstance(options, dict) else dict(zip(string.ascii_uppercase, options, strict=False))
    by_letter = {letter.strip().upper(): option for letter, option in by_letter.items()}
    letters = list(by_letter)
    named = place(params.reference, by_letter.values())
    wanted = params.reference.strip(string.punctuation + string.whitespace).upper() if named is None else letters[named]
    answer = stated(text)
    for _ in range(2):
        if (dressed := _DRESSED.fullmatch(answer)) is not None:
            answer = next(each for each in dressed.groups() if each is not None).strip()
    said = place(answer, by_letter.values())
    if said is not None:
        return letters[said] == wanted
    letter = _LETTER.fullmatch(answer)
    if letter is None:
        raise Unreadable("not one choice")
    if letter[2] and not (letter[1].upper() in by_letter and same_words(letter[2], by_letter[letter[1].upper()])):
        raise Unreadable("something beside the letter")
    return letter[1].upper() == wanted and (not options or wanted in by_letter)


def regex(params: RegexParams, text: str) -> bool:
    """Python's own engine, on the patterns that it reads as RE2 does: the worker's deadline ends it."""
    return pattern.matches(params.pattern, text.strip(), full=params.match == "full")
