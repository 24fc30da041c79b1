"""The second verifier of `math`: both answers are evaluated with 60 digits, part by part."""

from __future__ import annotations

import re
from typing import Any

import mpmath

from router.verify.second.formula import evaluate
from router.verify.second.number import Number, read
from router.verify.second.reading import Unreadable
from router.verify.second.words import same_words

_POINTS = 3
_AGREED = "1e-40"
_TURNED = str.maketrans("<>≤≥", "><≥≤")
_OPEN, _CLOSE = "([{", ")]}"
_SPELLINGS = (
    (r"\\\$|\\left|\\right|\\displaystyle|(?<!\\)\\[,;:! ]|\\q?quad|~|\$", " "),
    (r"\\begin\s*\{[pbB]?matrix\}", "("),
    (r"(?:\\\\)?\s*\\end\s*\{[pbB]?matrix\}", ")"),
    (r"&|\\\\", ","),
    (r"^\s*[A-Za-z]\s*(?:\\in(?![A-Za-z])|∈)", ""),
    (r"(?<=\d)[eE](-?\d+)", r"*10^{\1}"),
    (r"\\leq?slant|\\leq|\\le(?!ft)|<=|≤", " ≤ "),
    (r"\\geq?slant|\\geq|\\ge|>=|≥", " ≥ "),
    (r"\\lt(?![a-z])", "<"),
    (r"\\gt(?![a-z])", ">"),
    (r"\\cup|∪", " ∪ "),
    (r"\\(?:pm|mp)|±", " ± "),
    (r"\\infty|∞|(?<![A-Za-z\\])(?:oo|inf(?:inity)?)(?![A-Za-z])", " ∞ "),
    (r"(?<=\d),(?=\d{3}(?!\d))|(?<=\d)\{,\}(?=\d)", ""),
    (r"\\text\s*\{\s*(?:and|or)\s*\}", ","),
    (r"\\(?:text|mathrm|textbf|mathbf|mbox)\s*\{([^{}]*)\}", r" \1 "),
    (r"\^\s*\{?\s*\\circ\s*\}?|°", " "),
    (r"(\d)\s*\\?%", r"\1"),
    (r"\\([{}])", r" \\\1 "),
)
_SAME_SIGNS = (
    (r"\\[dtc]frac", r"\\frac"),
    (r"\\frac\s*([0-9])\s*([0-9])", r"\\frac \1 \2"),
    (r"\\(?:text|mathrm|mbox)\s*\{([A-Za-z])\}", r" \1 "),
    (r"\\(?:left|right|cdot|times|displaystyle)(?![a-z])|\\[,;:! ]|[$*\s{}]", " "),
    (r"\\leq?(?![a-z])|<=", "≤"),
    (r"\\geq?(?![a-z])|>=", "≥"),
    (r"(?<![A-Za-z\\])pi(?![A-Za-z])|π", r"\\pi "),
)
_WORDS = re.compile(r"[A-Za-z .'-]+")
_UNIT = re.compile(r"(?<=[\d})])\s*[A-Za-z][A-Za-z .]{1,30}(?:\^\{?[23]\}?)?$")
_MIXED = re.compile(r"^(-?)\s*(\d+)\s*(?:\\[dt]?frac\s*\{(\d+)\}\s*\{(\d+)\}|\s(\d+)/(\d+))$")


def same(reference: str, answer: str) -> bool:
    """Whether two answers say the same: equal numbers, or equal values of equal parts written with the same signs.

    Raises `Unreadable`, also where the values are equal but something is still to be worked out in one of them.
    """
    wanted, said = _number(reference), _number(answer)
    if wanted is not None and said is not None:
        return same_number(wanted, said)
    first, second = _spelled(reference).strip(), _spelled(answer).strip()
    if _WORDS.fullmatch(first) and (max(map(len, first.split())) > 2 or re.fullmatch("[A-Z]{2}", first)):
        return same_words(reference, answer)
    equal = "".join(first.split()) == "".join(second.split()) or _parts(first, second)
    if equal and (wanted is not None or _signs(reference) != _signs(answer)):
        raise Unreadable("equal, but in another form")
    return equal


def same_number(wanted: Number, said: Number) -> bool:
    """Whether a stated number is the reference, exactly, and counts the same if that counts anything."""
    if wanted.unit != said.unit and (wanted.unit in ("%", "°") or said.unit in ("%", "°")):
        return False
    if wanted.unit not in ("", said.unit):
        raise Unreadable("a unit in other words")
    return wanted.value == said.value


def _number(text: str) -> Number | None:
    try:
        return read(text)
    except Unreadable:
        return None


def _signs(text: str) -> list[str]:
    """What a formula is written with, in no order, but for braces, spaces and signs of multiplication."""
    for pattern, spelled in _SAME_SIGNS:
        text = re.sub(pattern, spelled, text)
    return sorted(re.findall(r"\\[A-Za-z]+|[A-Za-z]|[0-9.,]+|\S", text.strip().removesuffix(".")))


def _spelled(text: str) -> str:
    for pattern, replacement in _SPELLINGS:
        text = re.sub(pattern, replacement, text)
    return " ".join(text.split()).rstrip(".")


def _parts(first: str, second: str) -> bool:
    first, second = _as_list(first), _as_list(second)
    for separator in "∪,":
        left, right = _split(first, separator), _split(second, separator)
        if len(left) > 1 or len(right) > 1:
            return _matched(left, right, ordered=False)
    left_kind, right_kind = _bracketed(first), _bracketed(second)
    if left_kind or right_kind:
        if left_kind[:2] != right_kind[:2]:
            return False
        return _matched(_split(left_kind[2:], ","), _split(right_kind[2:], ","), ordered=True)
    if re.search(r"[=<>≤≥]", first + second):
        return _relations(first, second)
    if "∞" in first or "∞" in second:
        return first.replace(" ", "").lstrip("+") == second.replace(" ", "").lstrip("+")
    return all(_close(_value(first, shift), _value(second, shift)) for shift in range(_POINTS))


def _matched(left: list[str], right: list[str], *, ordered: bool) -> bool:
    if len(left) != len(right):
        return False
    if ordered:
        return all(_parts(a.strip(), b.strip()) for a, b in zip(left, right, strict=True))
    rest = list(right)
    for part in left:
        found = next((index for index, other in enumerate(rest) if _parts(part.strip(), other.strip())), None)
        if found is None:
            return False
        rest.pop(found)
    return True


def _split(text: str, separator: str) -> list[str]:
    parts, level = [""], 0
    for char in text:
        level += (char in _OPEN) - (char in _CLOSE)
        if char == separator and level == 0:
            parts.append("")
        else:
            parts[-1] += char
    return parts


def _bracketed(text: str) -> str:
    """`(]` and the inside for a tuple or an interval, else an empty text."""
    inside = text[1:-1]
    if text[:1] in ("(", "[") and text[-1:] in (")", "]") and len(_split(inside, ",")) > 1:
        return text[0] + text[-1] + inside
    return ""


def _as_list(text: str) -> str:
    """Sets without their braces, and what has both signs written out: both are unordered lists."""
    text = text.strip()
    if text.startswith("\\{") and text.endswith("\\}"):
        text = text[2:-2]
    return f"{text.replace('±', '+', 1)}, {text.replace('±', '-', 1)}" if "±" in text else text


def _relations(first: str, second: str) -> bool:
    """Whether each link of a chain such as `1 < x < 2` has its equal in the other chain."""
    left, right = _links(first), list(_links(second))
    if len(left) != len(right):
        return False
    for link in left:
        found = next((index for index, other in enumerate(right) if _same_link(link, other)), None)
        if found is None:
            return False
        right.pop(found)
    return True


def _links(text: str) -> list[tuple[str, str, str]]:
    parts = re.split(r"([=<>≤≥])", text)
    return [(parts[at], parts[at + 1], parts[at + 2]) for at in range(0, len(parts) - 2, 2)]


def _same_link(one: tuple[str, str, str], other: tuple[str, str, str]) -> bool:
    """Whether the differences of the sides are in a constant ratio, with the sign of the relation turned with it."""
    ratios = []
    for shift in range(_POINTS):
        left = _value(one[0], shift) - _value(one[2], shift)
        right = _value(other[0], shift) - _value(other[2], shift)
        if _close(left, 0) or _close(right, 0):
            raise Unreadable("a relation that always holds")
        ratios.append(left / right)
    if not all(_close(ratio, ratios[0]) for ratio in ratios):
        return False
    turned = mpmath.re(ratios[0]) < 0
    return other[1] == (one[1].translate(_TURNED) if turned else one[1])


def _value(text: str, shift: int) -> Any:
    text = _UNIT.sub("", text.strip())
    if (mixed := _MIXED.match(text)) is not None:
        over, under = (mixed[3], mixed[4]) if mixed[3] else (mixed[5], mixed[6])
        text = f"{mixed[1]}({mixed[2]}+{over}/{under})"
    return evaluate(text, shift)


def _close(first: Any, second: Any) -> bool:
    with mpmath.workdps(60):
        return bool(abs(first - second) <= mpmath.mpf(_AGREED) * (1 + abs(second)))
