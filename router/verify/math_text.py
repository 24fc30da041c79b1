"""The grammar between a text and the algebra system. Bounded work, no algebra: it also runs at admission.

`admit_math` refuses what could hang the system or is still to be worked out (`math_filter`), and splits lists, tuples,
sets, intervals, relations and matrices, so that only scalar expressions are ever parsed as algebra.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

from router.quantity import Quantity, canonical_unit, parse_quantity
from router.verify.math_filter import CLOSE, COMMAND, OPEN, NotAdmitted, NotRead, check, matching
from router.verify.math_spelling import respelled, undressed

MAX_CHARS = 512
MAX_ITEMS = 64
MAX_SIDES = 4
MAX_DEPTH = 3


@dataclass(frozen=True, slots=True)
class Words:
    """An answer in words, folded."""

    text: str


@dataclass(frozen=True, slots=True)
class Scalar:
    """One expression in LaTeX, and its unit where one follows it."""

    latex: str
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Relation:
    """A chain `a < b <= c`: one side more than signs."""

    sides: tuple[Scalar, ...]
    signs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Several answers. `kind`: `set` (unordered), the brackets of a tuple or interval, `union`, `matrix RxC`, or
    `determinant RxC`.
    """

    kind: str
    items: tuple[Form, ...]


Form: TypeAlias = Words | Scalar | Relation | Group

_SIGNS = {"=": "=", "<": "<", ">": ">", r"\lt": "<", r"\gt": ">", r"\ne": "!=", r"\neq": "!="}
_SIGNS |= {command: "<=" for command in (r"\le", r"\leq", r"\leqslant")}
_SIGNS |= {command: ">=" for command in (r"\ge", r"\geq", r"\geqslant")}
_UNIT = re.compile(r"\\unit\{([^{}]*)\}")
_SHORT_WORDS = frozenset({"yes", "no", "odd", "dne"})
_ABBREVIATION = re.compile(r"[A-Z]{2,3}|[a-z]{3}")  # `ASA`, `cat`: as a product its letters would have no order
_PHRASE = re.compile(r"[A-Za-z][A-Za-z' -]*")
_MEMBER = re.compile(r"[A-Za-z]\s*\\in(?![A-Za-z])(.*)")
_PLUS_MINUS = re.compile(r"\\(?:pm|mp)(?![A-Za-z])")
_WITH_UNIT = re.compile(r"(.*?)\\unit\{([^{}]*)\}(?:\s*\^\s*\{?([23])\}?)?")
_MATRIX = re.compile(r"\\begin\{([pbvB]?matrix)\}(.*)\\end\{\1\}")


def plain_number(text: str) -> Quantity | None:
    """The number that `text` is; letters right behind a digit are variables (`5m`), unless they are `\\text`."""
    quantity = parse_quantity(text)
    if quantity is None:
        return None
    if quantity.unit.isalpha() and r"\text" not in text and r"\mathrm" not in text and re.search(r"\d[A-Za-z]", text):
        return None
    return quantity


def admit_math(text: str, *, allow_unevaluated: bool = False) -> Form:
    """The form of a mathematical answer. Raises `NotAdmitted`."""
    if len(text) > MAX_CHARS:
        raise NotAdmitted(f"is longer than {MAX_CHARS} characters")
    respelling = respelled(undressed(text))
    words = _words(respelling)
    if words is not None:
        return words
    check(respelling, allow_unevaluated=allow_unevaluated)
    return _form(respelling, depth=0)


def number_form(number: Quantity) -> Scalar:
    """A plain number as an expression."""
    value = number.value
    latex = str(value.numerator) if value.denominator == 1 else f"\\frac{{{value.numerator}}}{{{value.denominator}}}"
    return Scalar(latex, number.unit)


def _words(text: str) -> Words | None:
    """The words, when the text is nothing else: all `\\text`, or one of four letters, or one that is known."""
    bare = _UNIT.sub(r"\1", text).strip(" .!?\"'")
    if _PHRASE.fullmatch(bare) is None:
        return None
    words = re.split(r"[ '-]+", bare.casefold())
    if _ABBREVIATION.fullmatch(bare):
        return Words(bare)
    if _UNIT.fullmatch(text) is None and not any(len(word) >= 4 or word in _SHORT_WORDS for word in words):
        return None
    return Words(" ".join(bare.casefold().split()))


def _form(text: str, depth: int) -> Form:
    if depth > MAX_DEPTH:
        raise NotRead("has groups in groups in groups")
    text = text.strip()
    if (matrix := _MATRIX.fullmatch(text)) is not None:
        return _matrix("determinant" if matrix[1] == "vmatrix" else "matrix", matrix[2], depth)
    member = _MEMBER.fullmatch(text)
    if member is not None and depth == 0:
        return _form(member[1], depth)
    if len(parts := _split(text, (r"\cup",))) > 1:
        return Group("union", tuple(_form(part, depth + 1) for part in parts))
    if len(parts := _split(text, (",",))) > 1:
        return Group("set", _members(parts, depth))
    if text.startswith(r"\lbrace") and text.endswith(r"\rbrace"):
        return Group("set", _members(_split(text[len(r"\lbrace") : -len(r"\rbrace")], (",",)), depth))
    if text[:1] in ("(", "[") and text[-1:] in (")", "]") and matching(text, 0) == len(text) - 1:
        inner = _split(text[1:-1], (",",))
        if len(inner) > 1:
            return Group(text[0] + text[-1], tuple(_form(part, depth + 1) for part in inner))
    return _plus_minus(text)


def _members(parts: list[str], depth: int) -> tuple[Form, ...]:
    """The members of a set; one with a plus-minus sign is two."""
    members: list[Form] = []
    for part in parts:
        form = _form(part, depth + 1)
        both = isinstance(form, Group) and form.kind == "set" and _PLUS_MINUS.search(part)
        members += form.items if isinstance(form, Group) and both else (form,)
    return tuple(members)


def _matrix(kind: str, body: str, depth: int) -> Group:
    rows = [row.split("&") for row in re.split(r"\\\\", body) if row.strip()]
    if not rows or len({len(row) for row in rows}) != 1 or len(rows) * len(rows[0]) > MAX_ITEMS:
        raise NotRead("has a matrix we do not read")
    cells = tuple(_form(cell, depth + 2) for row in rows for cell in row)
    return Group(f"{kind} {len(rows)}x{len(rows[0])}", cells)


def _plus_minus(text: str) -> Form:
    signs = _PLUS_MINUS.findall(text)
    if len(signs) > 1:
        raise NotRead("has more than one plus-minus sign")
    if not signs:
        return _relation(text)
    return Group("set", tuple(_relation(_PLUS_MINUS.sub(sign, text)) for sign in "+-"))


def _relation(text: str) -> Form:
    sides = _split(text, tuple(_SIGNS))
    if len(sides) == 1:
        return _scalar(text)
    signs = tuple(_SIGNS[sign] for sign in _separators(text, tuple(_SIGNS)))
    if len(sides) > MAX_SIDES:
        raise NotRead("is a long chain of relations")
    if any(_is_tuple(side.strip()) for side in sides):
        raise NotRead("relates tuples")
    return Relation(tuple(_scalar(side) for side in sides), signs)


def _is_tuple(text: str) -> bool:
    whole = text[:1] == "(" and matching(text, 0) == len(text) - 1
    return whole and len(_split(text[1:-1], (",",))) > 1


def _scalar(text: str) -> Scalar:
    text = text.strip()
    unit = ""
    if (found := _WITH_UNIT.fullmatch(text)) is not None:
        power = f"^{found[3]}" if found[3] else ""
        text, known = found[1].strip(), canonical_unit(found[2] + power)
        if not known:
            raise NotAdmitted("has words in it")
        unit = known
    if not text or r"\unit" in text or r"\lbrace" in text or r"\rbrace" in text or "&" in text or r"\\" in text:
        raise NotAdmitted("is not an expression")
    return Scalar(text, unit)


def _split(text: str, separators: tuple[str, ...]) -> list[str]:
    """The parts of `text` between separators outside brackets."""
    parts, start = [], 0
    for at, separator in _positions(text, separators):
        parts.append(text[start:at])
        start = at + len(separator)
    parts.append(text[start:])
    if len(parts) > MAX_ITEMS:
        raise NotAdmitted(f"has more than {MAX_ITEMS} parts")
    if len(parts) > 1 and not all(part.strip() for part in parts):
        raise NotAdmitted("has an empty part")
    return parts


def _separators(text: str, separators: tuple[str, ...]) -> list[str]:
    return [separator for _, separator in _positions(text, separators)]


def _positions(text: str, separators: tuple[str, ...]) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    level = index = 0
    while index < len(text):
        char = text[index]
        if char == "\\":
            command = COMMAND.match(text, index)
            name = command[0] if command else char
            level += (name == r"\lbrace") - (name == r"\rbrace")
            if level == 0 and name in separators:
                found.append((index, name))
            index += len(name)
            continue
        level += (char in OPEN) - (char in CLOSE)
        if level == 0 and char in separators:
            found.append((index, char))
        index += 1
    return found
