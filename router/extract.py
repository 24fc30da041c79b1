"""The final answer of a text (DESIGN section 2, "What a check reads"). Shared by the checks and the vote.

The last `\\boxed{}`; else what follows the last `Answer:` or `####`. Two different final answers, or a hedged one, are
none. Every pass is linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from router.beside import CHANGING_BEFORE, denied, stands_alone
from router.doubt import contradicted, doubted, firmly_hedged, hedged, or_follows
from router.quantity import changes_value, parse_quantity, spoken

MAX_ANSWER_CHARS = 2048
MAX_TAIL_CHARS = 64 * 1024  # answers stand at the end: what lies further back is not read
_CONTEXT_CHARS = 200
_MAX_NESTED_BOXES = 4


class Missing(StrEnum):
    """Why a text has no final answer."""

    UNMARKED = "no final answer is marked"
    UNFINISHED = "the final answer is not finished"
    AMBIGUOUS = "two different final answers"
    HEDGED = "the final answer is hedged"
    PART = "the marked answer is part of something larger"
    TOO_LONG = "the final answer is too long"


@dataclass(frozen=True, slots=True)
class FinalAnswer:
    """A final answer, or why there is none."""

    text: str | None
    missing: Missing | None = None


@dataclass(frozen=True, slots=True)
class _Mark:
    start: int
    end: int  # end of the content
    content: str | None  # None: never closed


_LINE_MARK = re.compile(r"(?:\banswer[ \t*]*:|^[ \t>*]*####(?!#))[ \t*]*", re.IGNORECASE | re.MULTILINE)
_BOX = re.compile(r"\\boxed[ \t]*\{")
_BLANK_LINE = re.compile(r"\n[ \t\r]*\n")


def final_answer(text: str) -> FinalAnswer:
    """The marked final answer of `text`."""
    text = text[-MAX_TAIL_CHARS:]
    boxes = list(_boxes(text))
    lines = list(_line_marks(text))
    if not boxes and not lines:
        return FinalAnswer(None, Missing.UNMARKED)
    last = boxes[-1] if boxes else lines[-1]
    if last.content is None:
        return FinalAnswer(None, Missing.UNFINISHED)
    if not last.content:
        return FinalAnswer(None, Missing.UNMARKED)
    if len(last.content) > MAX_ANSWER_CHARS:
        return FinalAnswer(None, Missing.TOO_LONG)
    statement_start = max((found.end() for found in _BLANK_LINE.finditer(text, 0, last.start)), default=0)
    others = (mark for mark in (*boxes, *lines) if mark.end > statement_start)
    if any(_differs(mark, last) for mark in others) or contradicted(text[last.end :], last.content):
        return FinalAnswer(None, Missing.AMBIGUOUS)
    if _hedged(text, last, boxed=bool(boxes)):
        return FinalAnswer(None, Missing.HEDGED)
    if boxes and not stands_alone(text[statement_start : last.start], _paragraph(text, last.end)):
        return FinalAnswer(None, Missing.PART)
    return FinalAnswer(last.content)


def _boxes(text: str) -> Iterator[_Mark]:
    """The outermost boxes, in order; the content of a box that only holds a box is the inner one's."""
    position = 0
    while (opening := _BOX.search(text, position)) is not None:
        closing = _closing_brace(text, opening.end())
        if closing is None:
            yield _Mark(opening.start(), len(text), None)
            return
        yield _Mark(opening.start(), closing + 1, _unboxed(text[opening.end() : closing]))
        position = closing + 1


def _closing_brace(text: str, start: int) -> int | None:
    level = 1
    index = start
    while index < len(text):
        char = text[index]
        if char == "\\":
            index += 2
            continue
        if char == "{":
            level += 1
        elif char == "}":
            level -= 1
            if level == 0:
                return index
        index += 1
    return None


def _unboxed(content: str) -> str:
    content = content.strip()
    for _ in range(_MAX_NESTED_BOXES):
        opening = _BOX.match(content)
        if opening is None or _closing_brace(content, opening.end()) != len(content) - 1:
            break
        content = content[opening.end() : -1].strip()
    return content


def _line_marks(text: str) -> Iterator[_Mark]:
    """What follows each `Answer:` or `####` to the end of its line, or the next line when nothing does."""
    for match in _LINE_MARK.finditer(text):
        start = match.end()
        if not text[start : _line_end(text, start)].strip(" \t*"):
            while start < len(text) and text[start] in " \t\r\n*":
                start += 1
        end = _line_end(text, start)
        yield _Mark(match.start(), end, text[start:end].strip().strip("*").strip())


def _line_end(text: str, start: int) -> int:
    end = text.find("\n", start)
    return len(text) if end < 0 else end


def _differs(mark: _Mark, last: _Mark) -> bool:
    """Whether a mark of the final statement, or one after it, states another answer than the last one."""
    if mark.start <= last.start < mark.end or last.start <= mark.start < last.end:  # `Answer: \\boxed{5}` is one answer
        return False
    return bool(mark.content) and _squeezed(mark.content or "") != _squeezed(last.content or "")


def _paragraph(text: str, start: int) -> str:
    """The text from `start` to the next blank line."""
    blank = _BLANK_LINE.search(text, start)
    return text[start : blank.start()] if blank else text[start:]


def _squeezed(content: str) -> str:
    content = _unboxed(content.strip(" $.*"))
    return re.sub(r"[\s$]+|\\[,;!]", "", content.replace(r"\dfrac", r"\frac").replace(r"\tfrac", r"\frac")).strip(".*")


def _hedged(text: str, last: _Mark, *, boxed: bool) -> bool:
    after = text[last.end :]
    before = text[text.rfind("\n", 0, last.start) + 1 : last.start][-_CONTEXT_CHARS:]
    if not boxed:
        return hedged(last.content or "") or firmly_hedged(before) or doubted("", after)
    rest = after[: _line_end(after, 0)][:_CONTEXT_CHARS]
    return denied(after) or or_follows(rest) or doubted(before, after)


_NUMBER = re.compile(
    r"(?<![\w.,\\^])(?:\\[dtc]?frac[ ]?\{-?\d+\}[ ]?\{-?\d+\}|[+\-−]?[$€£¥₹]?[+\-−]?"
    r"(?:\d+(?:,\d+)*(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?(?:[ ]?/[ ]?\d+(?:,\d+)*(?:\.\d+)?)?)"
)
_SUFFIX = re.compile(r"[ ]?(?:\\?%|percent\b)|(?:[A-Za-z]{1,4}|°[CF]?)(?![A-Za-z0-9^_])")
_BULLET = re.compile(r"[ \t]*[-*•][ \t]*")
_WORKED_BEFORE = re.compile(  # an operator, a command such as \sqrt, or words for one, right before the number
    r"(?:[-+*/^×÷·⋅<>≤≥−_{\[&!|]|\\[A-Za-z]+|\d:|\d to|"
    rf"\b(?:nearly|almost|under|above|below|up to|at (?:least|most)))$|{CHANGING_BEFORE}",
    re.IGNORECASE,
)
_MINUEND = re.compile(r"(?:\b[A-Za-z]|[\d)\]}])\s*$")
_CLOSER = re.compile(r"(?:\\[)\]]|[$*`\"')\]}.,;:!?])*")
_WORKED_AFTER = re.compile(  # an operator or a variable after it
    r"[-+*/^×÷·⋅<>=≤≥−_{\[&‰]|\\(?!%|\$|quad)|"
    r"[bcdefijknopqrtuvwxyzBDEGHMOPQRSTUXYZ](?![A-Za-z'])"
)
_WORD = re.compile(r"[A-Za-z]+")
_FORMULA = re.compile(r"(?:\d|\\[A-Za-z]+|(?<![A-Za-z'’])[A-Za-z](?![A-Za-z])|[-+*/^×÷·⋅−{}()\[\]|!$%.,\s])+$")
_TIMES = re.compile(r"(?<=[\d%)])\s?[xX]\s?(?=[\d($])")
_UNKNOWN = re.compile(
    r"\\(?!(?:[dtc]?frac|sqrt|times|cdot|div|log|ln)(?![A-Za-z]))[A-Za-z]+|(?<![\\A-Za-z])[A-Za-z](?![A-Za-z])"
)
_SUBSCRIPT = re.compile(r"_(?:\{[^{}]*\}|\w)")
_HARMLESS = re.compile(r"\\(?:text|mathrm|operatorname|overline|angle|triangle|left|right|quad|displaystyle|[,;:! ($])")
_CALLED = re.compile(r"[A-Za-z]\((?:-?\d+(?:, ?-?\d+)*|[A-Za-z])\)")
_MULTIPLIER = re.compile(
    r"\b(?:half|third|quarter|twice|thrice|double|triple|times|sqrt|squared?|log|ln|sin|cos|tan)\b"
)


def last_number(text: str) -> FinalAnswer:
    """The last number of `text`, with its sign, currency and percent, when it stands alone.

    A number that is part of an expression (`x + 3`, `2x`, `\\sqrt{2}`, `3:45`) is no answer, and then there is none.
    """
    text = spoken(text[-MAX_TAIL_CHARS:])
    numbers = list(_NUMBER.finditer(text))
    if not numbers:
        return FinalAnswer(None, Missing.UNMARKED)
    last = numbers[-1]
    suffix = _SUFFIX.match(text, last.end())
    end = suffix.end() if suffix else last.end()
    line_start = text.rfind("\n", 0, last.start()) + 1
    before, after = text[line_start : last.start()], text[end : _line_end(text, end)]
    subtracted = last[0][0] in "+-−" and _MINUEND.search(before)
    left, equals, opened = before.rpartition("=")
    unsolved = equals and not opened.strip(" $*\\([") and not _solved(left)
    if subtracted or unsolved or not _alone(before, after):
        return FinalAnswer(None, Missing.UNMARKED)
    paragraph = max((found.end() for found in _BLANK_LINE.finditer(text, 0, last.start())), default=0)
    if contradicted(text[paragraph:], last[0]):
        return FinalAnswer(None, Missing.AMBIGUOUS)
    if doubted(before[-_CONTEXT_CHARS:], text[end:]):
        return FinalAnswer(None, Missing.HEDGED)
    return FinalAnswer(text[last.start() : end])


def stated_number(answer: str) -> str:
    """The number that a final answer in words states (`she has 18 apples`), when it holds just one; else `answer`.

    Of `3 * 6 = 18` and `x = 18` it is what follows the equals sign; `2x = 18` states none.
    """
    left, equals, right = answer.strip().strip("$").rpartition("=")
    if equals and not set(left) & set("<>≤≥,;=") and _solved(left):
        return right
    if len(_NUMBER.findall(answer)) != 1 or parse_quantity(answer) is not None:
        return answer
    return last_number(answer).text or answer


def _solved(left: str) -> bool:
    """Whether the left side of an equation names its right side, or works it out: `x`, `f(2)`, `3 * 6`, not `2x`."""
    side = re.split(r"=|[.!?:;,]\s|\bso\b", left)[-1]
    side = _SUBSCRIPT.sub("", _HARMLESS.sub(" ", _TIMES.sub("*", side[-_CONTEXT_CHARS:])))
    if _CALLED.fullmatch(side.strip(" $")):
        return True
    formula = _FORMULA.search(side)
    unknowns = _UNKNOWN.findall(formula[0]) if formula else []
    if formula and unknowns:
        return len(unknowns) == 1 and not re.search(r"[-+*/^×÷·⋅−|!\d\\]", formula[0].replace(unknowns[0], "", 1))
    return _MULTIPLIER.search(side) is None or re.search(r"\d", side) is not None


def _alone(before: str, after: str) -> bool:
    """Whether what stands around a number on its line leaves it a number."""
    if after.startswith(("..", "…")):
        return False
    closer = _CLOSER.match(after)
    rest = after[closer.end() :] if closer else after
    if rest and not rest[0].isspace() and not rest.startswith(r"\%"):
        return False
    word = _WORD.match(rest.lstrip())
    if _WORKED_AFTER.match(rest.lstrip()) or (word and changes_value(word[0])):
        return False
    if _BULLET.fullmatch(before):
        return True
    before = before[-_CONTEXT_CHARS:]
    opened = re.sub(r"(?:\\[(\[$]|[$*`\"'(])+$", "", before)
    if opened and opened != before and opened[-1].isalnum():  # `2*5`, `f(5`
        return False
    if "*" in before[len(opened) :] and "*" not in after:  # `2 *5`: no emphasis
        return False
    return _WORKED_BEFORE.search(opened.rstrip()) is None
