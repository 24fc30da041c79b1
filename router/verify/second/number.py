"""Numbers that stand alone, as fractions, with what stands behind them. Anything else is `Unreadable`."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from router.verify.second.reading import Unreadable, marked, refuse_doubt, speaks_of_an_answer
from router.verify.second.touching import TURNING

_LONGEST = 120
_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?"
_NUMBER = re.compile(
    rf"(?P<sign>-?)\s*(?P<money>[$€£¥₹]?)\s*(?:(?P<whole>[0-9]+) +(?P<part>[0-9]+)/(?P<of>[0-9]+)"
    rf"|(?P<over>{_DIGITS}|\.[0-9]+)(?:\s*/\s*(?P<under>{_DIGITS})"
    r"|[eE](?P<power>[+-]?[0-9]{1,2})|\s*\\times\s*10\^\{?(?P<ten>-?[0-9]{1,2})\}?)?)(?P<rest>(?:[ ]*%|°|\s+[^0-9]*|))"
)
_FRACTION = re.compile(r"\\[dtc]?frac\s*(?:\{\s*(-?[0-9]+)\s*\}\s*\{\s*([0-9]+)\s*\}|([0-9])([0-9]))")
_SPELLINGS = (
    (r"\\(?:text|mathrm|mbox)\s*\{([^{}]*)\}", r" \1 "),
    (r"\\displaystyle(?![a-z])", " "),
    (r"\\([$%])", r"\1"),
    (r"(?<=[0-9]) +percent\b", "%"),
    (r"\{,\}", ","),
    (r"\\!|(?<=-)\s+(?=[0-9])", ""),
    (r"\^\s*\{?\s*\\circ\s*\}?", "°"),
    ("[−–]", "-"),
)
_WRAPPED = re.compile(r"\$(.+)\$|\\\((.+)\\\)|\\\[(.+)\\\]|\*\*(.+)\*\*|`(.+)`", re.DOTALL)
_DRESS = re.compile(r"\*\*([^*]*)\*\*|\$([^$]*)\$|\\\((.*?)\\\)")
_SENTENCE = re.compile(rf"(?P<before>[^0-9]*?)(?P<number>-?[$€£]?{_DIGITS}%?)(?P<after>(?: [A-Za-z]+){{0,4}})[.!]?")
_SAID = re.compile(r"(?:[A-Za-z']+[ ,:]+)+|[^<>≤≥≠!,;]*[\w)\]] *= *|")
# On the left of an equals sign, what has still to be solved.
_WORKS_ON = re.compile(
    r"\b(?:half|third|quarter|twice|thrice|double|triple|times|sqrt|squared?|cubed?|log|ln|sin|cos|tan)\b"
)
_LONE_LETTER = re.compile(r"(?<![A-Za-z'\\])[A-Za-z](?![A-Za-z'])")


class Number(NamedTuple):
    """A number and what it counts: `%`, `°`, a currency sign, words, or nothing."""

    value: Fraction
    unit: str


def read(text: str) -> Number:
    """The number that a short text is. Raises `Unreadable`."""
    text = text.strip().removesuffix("\\").strip()
    for pattern, spelled in _SPELLINGS:
        text = re.sub(pattern, spelled, text)
    text = _FRACTION.sub(lambda found: f" {found[1] or found[3]}/{found[2] or found[4]}", text).strip()
    for _ in range(2):
        text = text[:-1].strip() if text.endswith(".") and not text.endswith("..") else text
        if (wrapped := _WRAPPED.fullmatch(text)) is not None:
            text = next(each for each in wrapped.groups() if each is not None).strip()
    found = _NUMBER.fullmatch(text.removesuffix(".") if not text.endswith("..") else text)
    if found is None or len(text) > _LONGEST:
        raise Unreadable("not one number")
    rest = found["rest"].strip()
    if rest not in ("", "%", "°") and (found["money"] or not _counts(rest)):
        raise Unreadable("words that may change the number")
    return Number(-_value(found) if found["sign"] else _value(found), rest.casefold() or found["money"])


def final(text: str) -> Number:
    """The number that a completion states: behind its mark, else the last one. Raises `Unreadable`."""
    found = marked(text)
    if found is not None:
        try:
            return read(found.content)
        except Unreadable:
            return read(_said(found.content))
    line = [each for each in text.split("\n") if re.search(r"\d", each)][-1:]
    statement = text[text.rfind("\n\n") + 1 :] if line and line[0] in text[text.rfind("\n\n") + 1 :] else text
    refuse_doubt(statement)
    sentence = re.split(r"(?<=[a-z0-9])[.!?] ", line[0].strip())[-1] if line else ""
    if speaks_of_an_answer(statement) > speaks_of_an_answer(sentence):
        raise Unreadable("an answer in another sentence")
    return read(_said(sentence))


def _said(sentence: str) -> str:
    """The number of a sentence that holds one, with its unit: `She has 18 apples.`, `9 * 2 = 18`."""
    left, equals, right = _DRESS.sub(r"\1\2\3", sentence).rpartition("=")
    found = _SENTENCE.fullmatch(f"{equals}{right}")
    before = f"{left}=" + found["before"][1:] if equals and found else found["before"] if found else ""
    if found is None or not _SAID.fullmatch(before) or TURNING.search(found["after"]):
        raise Unreadable("no number that stands alone")
    if TURNING.search(before) if not equals else _unsolved(left):
        raise Unreadable("words that may change the number")
    return found["number"] + found["after"]


def _unsolved(left: str) -> bool:
    """Whether the left side of an equation may be more than the name of the right one, or its calculation."""
    letters = len(_LONE_LETTER.findall(left))
    return bool(_WORKS_ON.search(left)) or letters > 1 or (letters == 1 and bool(re.search(r"[-+*/^×÷·|\\\d]", left)))


def _counts(words: str) -> bool:
    """Whether words behind a number only say what it counts."""
    counted = re.fullmatch(r"[A-Za-z]{3,}(?: [A-Za-z]{2,}){0,2}|[cmk]?m|k?g|[$€£]", words)
    return counted is not None and TURNING.search(words) is None


def _value(found: re.Match[str]) -> Fraction:
    if found["whole"]:
        part, of = int(found["part"]), int(found["of"])
        if not 0 < part < of:
            raise Unreadable("no mixed number")
        return int(found["whole"]) + Fraction(part, of)
    value = Fraction(found["over"].replace(",", ""))
    if found["under"]:
        under = Fraction(found["under"].replace(",", ""))
        if under == 0:
            raise Unreadable("no value")
        return value / under
    return value * Fraction(10) ** int(found["power"] or found["ten"] or 0)
