"""The filter and the grammar between a text and the algebra system. Linear work, no algebra: it also runs at admission.

`admit_math` refuses what could hang the system or restates a question, and splits lists, tuples, sets, intervals,
relations and matrices, so that only scalar expressions are ever parsed as algebra.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

from router.verify.quantity import Quantity, canonical_unit, parse_quantity

MAX_CHARS = 512
MAX_NESTING = 32
MAX_DIGITS = 50
MAX_EXPONENT = 1000
MAX_POWER_OF_POWERS = 10_000
MAX_ITEMS = 64
MAX_UNEVALUATED_DIGITS = 4  # of any literal beside a sum, an integral, a factorial, ... when those are allowed


class NotAdmitted(ValueError):
    """The text is no answer we compare; the message completes "the final answer ..."."""


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
    """Several answers. `kind`: `set` (unordered), the brackets of a tuple or interval, `union`, or `matrix RxC`."""

    kind: str
    items: tuple[Form, ...]


Form: TypeAlias = Words | Scalar | Relation | Group

_UNEVALUATED = frozenset(
    "int iint iiint oint sum prod lim limsup liminf binom dbinom tbinom gcd lcm det max min sup inf arg mod bmod pmod "
    "lfloor rfloor lceil rceil partial nabla cdots ldots dots vdots ddots".split()
)
_COMMANDS = (
    frozenset(
        "frac sqrt pi cdot times div pm mp infty sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh ln log lg exp "
        "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau "
        "upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega "
        "cup in le leq leqslant ge geq geqslant lt gt ne neq emptyset varnothing mathbb begin end vert lvert rvert "
        "overline bar hat vec mathbf mathit mathcal operatorname".split()
    )
    | _UNEVALUATED
)
_SIGNS = {"=": "=", "<": "<", ">": ">", r"\lt": "<", r"\gt": ">", r"\ne": "!=", r"\neq": "!="}
_SIGNS |= {command: "<=" for command in (r"\le", r"\leq", r"\leqslant")}
_SIGNS |= {command: ">=" for command in (r"\ge", r"\geq", r"\geqslant")}
_UNICODE = str.maketrans(
    {
        "−": "-",
        "–": "-",
        "×": r"\times ",
        "·": r"\cdot ",
        "⋅": r"\cdot ",
        "÷": "/",
        "π": r"\pi ",
        "∞": r"\infty ",
        "≤": r"\le ",
        "≥": r"\ge ",
        "≠": r"\ne ",
        "∪": r"\cup ",
        "∈": r"\in ",
        "±": r"\pm ",
        "θ": r"\theta ",
        "α": r"\alpha ",
        "β": r"\beta ",
        "²": "^{2}",
        "³": "^{3}",
        "\u00a0": " ",
        "\u2009": " ",
        "\u202f": " ",
    }
)
_DROPPED = re.compile(
    r"\\(?:left|right|bigl|bigr|Bigl|Bigr|big|Big|displaystyle|textstyle|limits|nolimits|qquad|quad)(?![A-Za-z])|\\[,;:! ]|~|&nbsp;"
)
_TEXT = re.compile(r"\\(?:text|mathrm|textrm|textbf|textit|mbox|rm)(?:\s*\{([^{}]*)\}|\b)")
_INLINE = re.compile(r"(?<!\\)\$([^$]+)(?<!\\)\$|\\\((.+?)\\\)")
_CONNECTIVE = re.compile(r"^\s*(?:,\s*)?(?:and|or)\s*$")
_COMMAND = re.compile(r"\\([A-Za-z]+|.)")
_LITERAL = re.compile(r"\d+(?:\.\d*)?|\.\d+")
_LETTERS = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_PLAIN_FUNCTION = re.compile(
    r"(?<![\\A-Za-z])(arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|log|ln|exp|pi|infinity|inf|oo)(?![A-Za-z])"
)
_PLAIN_NAMES = {"infinity": r"\infty ", "inf": r"\infty ", "oo": r"\infty "}
_MIXED = re.compile(r"(?<![\d.^}\w])(\d{1,9})\s*\\frac\{(\d{1,9})\}\{(\d{1,9})\}")
_SHORT_FRACTION = re.compile(r"\\frac\s*(?:(\d)|(\{))\s*")
_MATRIX = re.compile(r"\\begin\{([pbvB]?matrix)\}(.*)\\end\{\1\}")
_OPEN, _CLOSE = "([{", ")]}"


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
    form_text, words = _normalised(_dressing_off(text))
    if words is not None:
        return words
    _filter(form_text, allow_unevaluated=allow_unevaluated)
    return _form(form_text, depth=0)


def _dressing_off(text: str) -> str:
    text = text.strip()
    for _ in range(3):
        text = text.strip().rstrip(".").strip()
        for opening, closing in (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"), ("`", "`")):
            inner = text[len(opening) : -len(closing)]
            if text.startswith(opening) and text.endswith(closing) and inner and opening not in inner:
                text = inner
    found = _INLINE.findall(text)
    if len(found) == 1 and not any(char.isdigit() for char in _INLINE.sub("", text)):
        text = "".join(found[0])  # one formula in a sentence without other numbers
    return text.strip()


def _normalised(text: str) -> tuple[str, Words | None]:
    """LaTeX in one spelling; or the words, when the text is nothing else."""
    text = (
        text.translate(_UNICODE)
        .replace("$", " ")
        .replace(r"\dfrac", r"\frac")
        .replace(r"\tfrac", r"\frac")
        .replace(r"\cfrac", r"\frac")
    )
    text = _DROPPED.sub(" ", text).replace("**", "^").replace(r"\{", r"\lbrace ").replace(r"\}", r"\rbrace ")
    bare = _TEXT.sub(lambda found: found[1] or "", text).strip(" .!?\"'")
    if _is_words(bare):
        return "", Words(" ".join(bare.casefold().split()))
    text = _TEXT.sub(_text_in_formula, text)
    text = _PLAIN_FUNCTION.sub(lambda found: _PLAIN_NAMES.get(found[1], f"\\{found[1]} "), text)
    text = _plain_roots(text)
    text = _short_arguments(text)
    text = _MIXED.sub(_improper, text)
    text = re.sub(r"\^\s*(-?\d{2,})", r"^{\1}", text)
    text = re.sub(r"(?<![\\\w])\*|(?<=\w)\s*\*", r" \\cdot ", text)
    return " ".join(text.split()), None


def _is_words(text: str) -> bool:
    return bool(re.fullmatch(r"[A-Za-z][A-Za-z' -]*", text)) and any(
        len(word) >= 4 and not _PLAIN_FUNCTION.fullmatch(word) for word in re.split(r"[ '-]+", text)
    )


def _text_in_formula(found: re.Match[str]) -> str:
    content = (found[1] or "").strip()
    if _CONNECTIVE.match(content):
        return ","
    if len(content) <= 1 or re.fullmatch(r"\([A-Z]\)", content):
        return f" {content} "
    return f" \\unit{{{content}}} "


def _plain_roots(text: str) -> str:
    """`sqrt(2)` as `\\sqrt{2}`."""
    parts: list[str] = []
    position = 0
    for match in re.finditer(r"(?<![A-Za-z])(\\?sqrt|√)\s*\(", text):
        if match.start() < position:
            continue
        end = _matching(text, match.end() - 1)
        if end is None:
            raise NotAdmitted("has an open bracket")
        parts += [text[position : match.start()], r"\sqrt{", _plain_roots(text[match.end() : end]), "}"]
        position = end + 1
    return "".join(parts) + text[position:].replace("√", r"\sqrt ")


def _short_arguments(text: str) -> str:
    """`\\frac12` and `\\sqrt2` with braces."""
    text = re.sub(r"\\sqrt\s*(\d|[A-Za-z](?![A-Za-z]))", r"\\sqrt{\1}", text)
    text = re.sub(r"\\frac\s*([0-9A-Za-z])\s*([0-9A-Za-z])(?![A-Za-z])", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\\frac\s*([0-9A-Za-z])\s*\{", r"\\frac{\1}{", text)
    return re.sub(r"(\\frac\s*\{[^{}]*\})\s*([0-9A-Za-z])", r"\1{\2}", text)


def _improper(found: re.Match[str]) -> str:
    whole, over, under = (int(group) for group in found.groups())
    return (
        f"\\frac{{{whole * under + over}}}{{{under}}}"
        if 0 < over < under
        else f"{whole} \\cdot {found[0][len(found[1]) :]}"
    )


def _filter(text: str, *, allow_unevaluated: bool) -> None:
    if not text:
        raise NotAdmitted("is empty")
    if not text.isascii() or not text.isprintable() or set(text) & set("\"'`@#?%;~"):
        raise NotAdmitted("has characters that are not mathematics")
    commands = {found[1] for found in _COMMAND.finditer(text)} - {"lbrace", "rbrace", "unit", "\\"}
    unknown = sorted(commands - _COMMANDS)
    if unknown:
        raise NotAdmitted("has a command we do not read")
    unevaluated = bool(commands & _UNEVALUATED) or re.search(r"[\d)}]\s*!", text) is not None
    if unevaluated and not allow_unevaluated:
        raise NotAdmitted("is not evaluated")
    longest = max((len(found[0]) for found in _LITERAL.finditer(text)), default=0)
    if longest > (MAX_UNEVALUATED_DIGITS if unevaluated else MAX_DIGITS):
        raise NotAdmitted("has a number with too many digits")
    if unevaluated and re.search(r"!\s*!|\)\s*!|\}\s*!|\\infty", text):
        raise NotAdmitted("has a factorial or a bound that is too large")
    if any(
        not _is_product(found[0])
        for found in _LETTERS.finditer(re.sub(r"\\unit\{[^{}]*\}|\{[pbvB]?matrix\}", "", text))
    ):
        raise NotAdmitted("has words in it")
    _filter_nesting(text)
    _filter_powers(text)


def _is_product(letters: str) -> bool:
    return len(letters) <= 3


def _filter_nesting(text: str) -> None:
    level = 0
    for char in text:
        level += (char in _OPEN) - (char in _CLOSE)
        if level > MAX_NESTING:
            raise NotAdmitted(f"is nested deeper than {MAX_NESTING}")
        if level < 0:
            raise NotAdmitted("has an unmatched bracket")
    if level:
        raise NotAdmitted("has an open bracket")


def _filter_powers(text: str) -> None:
    """No tower of literals, no large exponent, no long power of powers."""
    product = 1
    for match in re.finditer(r"\^\s*", text):
        start = match.end()
        end = (_matching(text, start) or len(text)) + 1 if text[start : start + 1] in ("{", "(") else start + 1
        exponent = text[start:end]
        if "^" in exponent or text[end:].lstrip(" })").startswith("^"):
            if any(int(float(literal)) > 10 for literal in _LITERAL.findall(exponent)) or not re.search(
                r"[A-Za-z]", exponent
            ):
                raise NotAdmitted("has a tower of powers")
            if exponent.count("^") > 1:
                raise NotAdmitted("has a tower of powers")
        for literal in _LITERAL.findall(exponent):
            if float(literal) > MAX_EXPONENT:
                raise NotAdmitted("has an exponent that is too large")
            if text[: match.start()].rstrip()[-1:] in (")", "}", "]"):
                product *= max(1, int(float(literal)))
    if product > MAX_POWER_OF_POWERS:
        raise NotAdmitted("has a power of powers that is too large")


def _matching(text: str, opening: int) -> int | None:
    level = 0
    for index in range(opening, len(text)):
        level += (text[index] in _OPEN) - (text[index] in _CLOSE)
        if level == 0:
            return index
    return None


def _form(text: str, depth: int) -> Form:
    if depth > 3:
        raise NotAdmitted("has groups in groups in groups")
    text = text.strip()
    if (matrix := _MATRIX.fullmatch(text)) is not None:
        return _matrix(matrix[2], depth)
    member = re.fullmatch(r"[A-Za-z]\s*\\in(?![A-Za-z])(.*)", text)
    if member is not None and depth == 0:
        return _form(member[1], depth)
    if len(parts := _split(text, (r"\cup",))) > 1:
        return Group("union", tuple(_form(part, depth + 1) for part in parts))
    if len(parts := _split(text, (",",))) > 1:
        return Group("set", tuple(_form(part, depth + 1) for part in parts))
    if text.startswith(r"\lbrace") and text.endswith(r"\rbrace"):
        inner = _split(text[len(r"\lbrace") : -len(r"\rbrace")], (",",))
        return Group("set", tuple(_form(part, depth + 1) for part in inner))
    if text[:1] in ("(", "[") and text[-1:] in (")", "]") and _matching(text, 0) == len(text) - 1:
        inner = _split(text[1:-1], (",",))
        if len(inner) > 1:
            return Group(text[0] + text[-1], tuple(_form(part, depth + 1) for part in inner))
    return _relation(text)


def _matrix(body: str, depth: int) -> Group:
    rows = [row.split("&") for row in re.split(r"\\\\", body) if row.strip()]
    if not rows or len({len(row) for row in rows}) != 1 or len(rows) * len(rows[0]) > MAX_ITEMS:
        raise NotAdmitted("has a matrix we do not read")
    cells = tuple(_form(cell, depth + 2) for row in rows for cell in row)
    return Group(f"matrix {len(rows)}x{len(rows[0])}", cells)


def _relation(text: str) -> Form:
    sides = _split(text, tuple(_SIGNS))
    if len(sides) == 1:
        return _plus_minus(text)
    signs = tuple(_SIGNS[sign] for sign in _separators(text, tuple(_SIGNS)))
    if len(sides) > 4:
        raise NotAdmitted("is a long chain of relations")
    return Relation(tuple(_scalar(side) for side in sides), signs)


def _plus_minus(text: str) -> Form:
    signs = re.findall(r"\\(?:pm|mp)(?![A-Za-z])", text)
    if len(signs) > 1:
        raise NotAdmitted("has more than one plus-minus sign")
    if not signs:
        return _scalar(text)
    both = tuple(_scalar(re.sub(r"\\(?:pm|mp)(?![A-Za-z])", sign, text)) for sign in "+-")
    return Group("set", both)


def _scalar(text: str) -> Scalar:
    text = text.strip()
    unit = ""
    if (found := re.fullmatch(r"(.*?)\\unit\{([^{}]*)\}(?:\s*\^\s*\{?([23])\}?)?", text)) is not None:
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
            command = _COMMAND.match(text, index)
            name = command[0] if command else char
            level += (name == r"\lbrace") - (name == r"\rbrace")
            if level == 0 and name in separators:
                found.append((index, name))
            index += len(name)
            continue
        level += (char in _OPEN) - (char in _CLOSE)
        if level == 0 and char in separators:
            found.append((index, char))
        index += 1
    return found
