"""How hard a prompt looks, and whether its answers can be compared: an honest heuristic on the text alone.

It reads surface features of English prompts, no more: it does not know what the model can do. A calibrated estimate
from logged outcomes replaces it when there are data; until then its weights are guesses, and `docs/routing.md` says so.
Every other pattern is RE2, so that its time is linear in the text whoever wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice
from math import exp

import re2

from router.domain import CheckSpec, Prompt
from router.enums import TaskKind

_END = 1024  # characters at either end of a long prompt in which the question is looked for
_MAX_COUNTED = 2048  # first characters, whose quantities and words are counted

_NUMBER = re.compile(r"[0-9]+(?:[.,][0-9]+)*")  # in `re`, six times as fast here: a text matches it in one way only
_OPERATION = re2.compile(
    r"(?i)[+*/×÷^%=]|\b(?:plus|minus|times|divided|product|sum|total|difference|average|remain\w*|left|each|every|per|twice"
    r"|double|triple|half|percent|ratio|more than|less than|fewer|altogether|increase\w*|decrease\w*)\b"
)
_STEP = re2.compile(
    r"(?i)\b(?:then|after|before|first|next|finally|if|when|until|while|how many|how much|step by step)\b"
)
_HARD = re2.compile(
    r"(?i)\b(?:prove|derive|integral|derivative|equation|probability|theorem|optimi[sz]e|algorithm|function|implement|program"
    r"|code|sql|query|puzzle|schedule|constraint\w*|permutation\w*|combination\w*|factor\w*|modulo|remainder|geometry)\b"
)
_ASKS_NUMBER = (
    r"(?i)how (?:many|much|far|long|old|tall|fast|often|big|heavy)\b|\b(?:calculate|compute|evaluate|solve|count)\b"
    r"|\bwhat (?:is|are|was|were) (?:the )?(?:[-(]?\d|sum|product|difference|total|average|value|number|result)"
    r"|^\s*[-(]*\d[\d\s.,()+*/×÷^%-]*(?:=\s*\??)?\s*$"
)
_ASKS_CHOICE = r"(?m)^\s*\(?A[).:]\s.*\n(?s:.*)^\s*\(?B[).:]\s"
_ASKS_SHORT = (
    r"(?i)\b(?:answer|reply|respond) (?:only )?(?:with|in) (?:only )?(?:a|one|a single|yes or no|true or false)\b"
    r"|\b(?:yes or no|true or false|one word)\b"
)
_ASKS_JSON = r"(?i)\b(?:as|in|return|output|valid|only) (?:a )?json\b"
_ASKED = {  # the first that is asked for counts
    TaskKind.CHOICE: _ASKS_CHOICE,
    TaskKind.SHORT: _ASKS_SHORT,
    TaskKind.JSON: _ASKS_JSON,
    TaskKind.NUMBER: _ASKS_NUMBER,
}


def _one_pass(patterns: Iterable[str]) -> re2.Set:
    """Patterns that are searched for together; a match names their positions."""
    found = re2.Set.SearchSet()
    for pattern in patterns:
        found.Add(pattern)
    found.Compile()
    return found


_ASKS = _one_pass(_ASKED.values())

_KIND_OF_CHECK = {
    "math": TaskKind.NUMBER,
    "numeric": TaskKind.NUMBER,
    "choice": TaskKind.CHOICE,
    "exact": TaskKind.SHORT,
    "json_schema": TaskKind.JSON,
    "python_outputs": TaskKind.CODE,
}


def detect_task(prompt: Prompt, checks: tuple[CheckSpec, ...] = ()) -> TaskKind:
    """The shape of the answer asked for: the checks say so, else the response format, else the last user message."""
    for check in checks:
        if check.type in _KIND_OF_CHECK:
            return _KIND_OF_CHECK[check.type]
    if (prompt.options.get("response_format") or {}).get("type") in ("json_object", "json_schema"):
        return TaskKind.JSON
    if prompt.options.get("tools"):
        return TaskKind.OPEN
    text = prompt.last_user_text
    if len(text) > 2 * _END:
        text = f"{text[:_END]}\n{text[-_END:]}"
    asked = _ASKS.Match(text) or ()
    return next((kind for position, kind in enumerate(_ASKED) if position in asked), TaskKind.OPEN)


def difficulty(prompt: Prompt) -> float:
    """Difficulty in [0, 1] of the last user message: a logistic of counted quantities, operations, steps and length.

    The weights are set by hand so that one operation on small numbers stays below one half and a two-step word problem
    lies above it.
    """
    text = prompt.last_user_text
    counted = text[:_MAX_COUNTED]
    data = counted.encode()  # RE2's own form: matches in it need no position in characters
    numbers = _NUMBER.findall(counted)
    long_numbers = sum(1 for number in numbers if len(number) >= 3)
    score = (
        -2.2
        + 0.45 * min(len(numbers), 6)
        + 0.35 * min(long_numbers, 4)
        + 0.30 * _count(_OPERATION, data, 6)
        + 0.25 * _count(_STEP, data, 6)
        + 0.60 * _count(_HARD, data, 3)
        + 0.15 * min(len(text) / 200, 6.0)
    )
    return 1.0 / (1.0 + exp(-score))


def _count(pattern: re2._Regexp, data: bytes, most: int) -> int:
    """Matches of a pattern in UTF-8, of which no more than `most` are looked for."""
    return sum(1 for _ in islice(pattern.finditer(data), most))
