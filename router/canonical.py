"""The canonical key of an answer: two samples vote together when their keys are equal.

Runs in the serving process: linear patterns, capped lengths, no algebra. The key is never a proof: an agreement of
keys alone is at most a consensus.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from router import strict_json
from router.domain import CheckResult, Sample
from router.doubt import hedged
from router.enums import TaskKind
from router.extract import FinalAnswer, Missing, final_answer, last_number, stated_number
from router.quantity import CURRENCIES, MEASURES, parse_quantity

MAX_SHORT_CHARS = 120
MAX_JSON_CHARS = 64 * 1024
_TRIMMED = " \t\r\n.,;:!?\"'`*_“”‘’«»"
_CHOICE = re.compile(r"[(\[]?([A-Za-z])(?:[)\].:](?:\s.*)?)?", re.DOTALL)
_LONE_CAPITAL = re.compile(r"\b[A-Z]\b")
_NOT_ITS_TEXT = re.compile(
    r"[)\].:]\s*(?:(?:or|and|nor|is|isn['’]t|are|was|cannot|can['’]t|but)\b|.*\b(?:or|and)\s*[(\[]?[A-Za-z][)\]])"
)
_OR = re.compile(r"\b(?:or|and)\b", re.IGNORECASE)
_TEXT_COMMAND = re.compile(r"\\(?:text|mathrm|textbf|mathbf|textit|mbox)\s*\{([^{}]*)\}")
_COMPATIBLE_ONLY = ("<super>", "<sub>", "<fraction>")  # folding these would turn 10² into 102
_json_encoder = msgspec.json.Encoder(order="sorted", decimal_format="number")


def vote_key(sample: Sample, kind: TaskKind, results: Sequence[CheckResult]) -> str | None:
    """What an ended sample votes by, or `None` when it does not vote.

    Tool calls vote by value, code by what it computed in the checks that ran it, all else by its answer. A sample cut
    at its token limit gives no vote: its last number is only where it happened to end.
    """
    if sample.finish_reason == "length":
        return None
    if calls := sample.message.get("tool_calls"):
        return tool_calls_key(calls)
    if kind is TaskKind.CODE:
        keys = [result.key for result in results if result.type == "python_outputs"]
        return ":".join(key for key in keys if key) if all(keys) else None
    return answer_key(sample.text, kind)


def answer_key(text: str, kind: TaskKind) -> str | None:
    """The vote key of a completion's `text`, or `None` when it does not vote.

    Numbers become exact rationals (`1,234`, `0.50`, `\\frac{1}{2}`). A percent sign and a unit of measurement stay in
    the key (`50%` is neither `50` nor `1/2`, `5 m` is not `5 cm`); a currency sign and a counted noun (`18 apples`) do
    not. Choices become their letter, JSON its sorted form, short answers their folded words. No final answer, two
    different ones, or a hedged one give `None`, and so does an open task. `answer_key(key, kind) == key`.
    """
    if kind is TaskKind.NUMBER:
        return _number_key(text)
    if kind is TaskKind.CHOICE:
        return _choice_key(text)
    if kind is TaskKind.SHORT:
        return _short_key(text)
    if kind is TaskKind.JSON:
        return json_key(text)
    return None


def fold(text: str) -> str:
    """NFKC, case-folded, spaces collapsed, outer punctuation trimmed; superscripts and fractions keep their value."""
    previous = None
    while previous != text:  # case folding and composition can undo each other once
        previous = text
        text = unicodedata.normalize("NFC", "".join(map(_compatible, unicodedata.normalize("NFC", text)))).casefold()
    return " ".join(text.split()).strip(_TRIMMED)


def _compatible(char: str) -> str:
    if unicodedata.decomposition(char).startswith(_COMPATIBLE_ONLY):
        return char
    return unicodedata.normalize("NFKC", char)


def _number_key(text: str) -> str | None:
    answer = final_answer(text)
    if answer.missing is Missing.UNMARKED:
        answer = FinalAnswer(text) if parse_quantity(text) else last_number(text)
    quantity = parse_quantity(stated_number(answer.text)) if answer.text is not None else None
    if quantity is None:
        return None
    unit = quantity.unit if quantity.unit in MEASURES - CURRENCIES else ""
    return f"{quantity.value}{'' if unit in ('', '%') else ' '}{unit}"


def _choice_key(text: str) -> str | None:
    answer = final_answer(text)
    if answer.missing is Missing.UNMARKED:
        answer = FinalAnswer(text)
    return choice_letter(answer.text) if answer.text is not None else None


def choice_letter(answer: str) -> str | None:
    """The letter, upper case, of an answer such as `B`, `(b)` or `B) Paris`.

    `None` when two letters stand in it, or something is said of the letter (`B) or c)`, `(B) is incorrect`).
    """
    answer = plain_words(answer)
    match = _CHOICE.fullmatch(answer)
    if match is None or len(answer) > MAX_SHORT_CHARS:
        return None
    letter = match[1].upper()
    others = set(_LONE_CAPITAL.findall(answer[match.end(1) :])) - {letter}
    said = others or _NOT_ITS_TEXT.match(answer, match.end(1)) or (len(answer) > 4 and hedged(answer))
    return None if said else letter


def plain_words(answer: str) -> str:
    """An answer without the LaTeX and Markdown that only dress it."""
    answer = _TEXT_COMMAND.sub(r"\1", answer.strip().strip("$*`").strip())
    for opening, closing in ((r"\(", r"\)"), (r"\[", r"\]")):
        if answer.startswith(opening) and answer.endswith(closing):
            answer = answer[len(opening) : -len(closing)]
    return answer.strip().strip("$*`").strip()


def _short_key(text: str) -> str | None:
    answer = final_answer(text)
    if answer.missing is Missing.UNMARKED:
        whole = text.strip()
        answer = FinalAnswer(whole) if len(whole) <= MAX_SHORT_CHARS and "\n" not in whole else answer
    if answer.text is None or len(answer.text) > MAX_SHORT_CHARS:
        return None
    key = fold(plain_words(answer.text))
    return None if not key or hedged(key) or _OR.search(key) else key


def json_key(text: str) -> str | None:
    """The sorted, compact form of the one JSON value in `text`; numbers by value, so `1.0` is `1`."""
    try:
        value = answer_json(text, exact_numbers=True)
        return _json_encoder.encode(_numbers_by_value(value)).decode()
    except (strict_json.NotJson, UnicodeEncodeError):
        return None


def tool_calls_key(calls: Sequence[Mapping[str, Any]]) -> str | None:
    """The vote key of a message's tool calls: their names and arguments by value, in any order, without their ids.

    `None`, which does not vote, when the arguments of one are not a JSON value (or a call is not one of a function).
    """
    try:
        return f"tool_calls:[{','.join(sorted(_call_key(call['function']) for call in calls))}]"
    except (strict_json.NotJson, UnicodeEncodeError, KeyError, TypeError):
        return None


def _call_key(function: Mapping[str, Any]) -> str:
    arguments = function["arguments"]
    if not isinstance(arguments, str) or len(arguments) > MAX_JSON_CHARS:
        raise strict_json.NotJson(f"no text of at most {MAX_JSON_CHARS} characters")
    value = _numbers_by_value(strict_json.loads(arguments, exact_numbers=True))
    return _json_encoder.encode({"name": function["name"], "arguments": value}).decode()


def answer_json(text: str, *, exact_numbers: bool = False) -> Any:
    """The JSON value that `text` is or holds. Raises `NotJson`."""
    if len(text) > MAX_JSON_CHARS:
        raise strict_json.NotJson(f"longer than {MAX_JSON_CHARS} characters")
    return strict_json.loads(strict_json.span(text), exact_numbers=exact_numbers)


def _numbers_by_value(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _numbers_by_value(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers_by_value(item) for item in value]
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else _shortest(value)
    return value


def _shortest(value: Decimal) -> Decimal:
    sign, digits, exponent = value.as_tuple()
    kept = list(digits)
    while len(kept) > 1 and kept[-1] == 0:
        kept.pop()
    return Decimal((sign, tuple(kept), int(exponent) + len(digits) - len(kept)))
