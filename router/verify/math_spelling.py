"""Mathematics in one spelling: Unicode, plain text and LaTeX variants become the LaTeX that the grammar reads."""

from __future__ import annotations

import re

from router.verify.math_filter import NotAdmitted, matching

_WRAPPERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"), ("`", "`"))
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
    r"\\(?:left|right|[bB]ig[lr]?|displaystyle|textstyle|(?:no)?limits|q?quad|boldsymbol)(?![A-Za-z])"
    r"|(?<!\\)\\[,;:! ]|~"
)
_FRACTION = re.compile(r"\\[dtc]frac(?![A-Za-z])")
_TEXT = re.compile(r"\\(?:text|mathrm|textrm|textnormal|textbf|textit|mbox|rm)(?:\s*\{([^{}]*)\}|\b)")
_INLINE = re.compile(r"(?<!\\)\$([^$]+)(?<!\\)\$|\\\((.+?)\\\)")
_END = re.compile(r"(?<!\.)(?:\.|\\)\s*$")  # a full stop, not an ellipsis; what is left of `\ `
_LABEL = re.compile(r"[A-Z]{1,2}|\([A-Z]\)")
_CONNECTIVE = re.compile(r"^\s*(?:,\s*)?(?:and|or)\s*$")
_PLAIN_FUNCTION = re.compile(
    r"(?<![\\A-Za-z])"
    r"(arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|log|ln|exp|pi|infinity|inf|oo)(?![A-Za-z])"
)
_PLAIN_NAMES = {"infinity": r"\infty ", "inf": r"\infty ", "oo": r"\infty "}
_LONG_EXPONENT = re.compile(r"\^\s*(-?\d{2,}|-\d)")
_STAR = re.compile(r"\s*\*\s*")
_NEEDLESS_SPACE = re.compile(r"(?<![A-Za-z0-9]) | (?![A-Za-z0-9])")
_MIXED = re.compile(r"(?<![\d.^}\w])(\d{1,9})\s*\\frac\{(\d{1,9})\}\{(\d{1,9})\}")


def undressed(text: str) -> str:
    """The formula without its delimiters; of a sentence with one formula and no other number, that formula."""
    for _ in range(3):
        text = _END.sub("", text.strip())
        for opening, closing in _WRAPPERS:
            inner = text[len(opening) : -len(closing)]
            if text.startswith(opening) and text.endswith(closing) and inner and opening not in inner:
                text = inner
    found = _INLINE.findall(text)
    if len(found) == 1 and not any(char.isdigit() for char in _INLINE.sub("", text)):
        text = "".join(found[0])
    return text.strip().rstrip("\\")


def respelled(text: str) -> str:
    """`text` with one spelling for each thing, and words as `\\unit{...}`. Raises `NotAdmitted` for an open bracket."""
    text = _FRACTION.sub(r"\\frac", text.translate(_UNICODE).replace("$", " "))
    text = text.replace(">=", r"\ge ").replace("<=", r"\le ").replace("!=", r"\ne ")
    text = _DROPPED.sub(" ", text).replace("**", "^").replace(r"\{", r"\lbrace ").replace(r"\}", r"\rbrace ")
    text = _TEXT.sub(_text_in_formula, text)
    text = _PLAIN_FUNCTION.sub(lambda found: _PLAIN_NAMES.get(found[1], f"\\{found[1]} "), text)
    text = _MIXED.sub(_improper, _short_arguments(_plain_roots(text)))
    text = _LONG_EXPONENT.sub(r"^{\1}", text)
    text = _STAR.sub(r" \\cdot ", text)
    return _NEEDLESS_SPACE.sub("", " ".join(text.split()))


def _text_in_formula(found: re.Match[str]) -> str:
    content = (found[1] or "").strip()
    if _CONNECTIVE.match(content):
        return ","
    if len(content) <= 1 or _LABEL.fullmatch(content):
        return f" {content} "
    return f" \\unit{{{content}}} "


def _plain_roots(text: str) -> str:
    """`sqrt(2)` as `\\sqrt{2}`."""
    parts: list[str] = []
    position = 0
    for match in re.finditer(r"(?<![A-Za-z])(\\?sqrt|√)\s*\(", text):
        if match.start() < position:
            continue
        end = matching(text, match.end() - 1)
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
