"""What stands beside a boxed answer, and whether that leaves it the answer.

In its sentence or formula a box may touch a relation such as `=`, punctuation, a currency sign, and words that only
name or count. Beside anything else (`-`, `\\sqrt{`, `^2`, `%`, `thousand`, a second value) it is part of another
answer.
Words are read in English. The work is bounded: 200 characters a side.
"""

from __future__ import annotations

import re

from router.quantity import scales, spoken

CONTEXT_CHARS = 200
CHANGING_BEFORE = (  # words right before a number that make it another one, or none
    r"\b(?:negative|minus|plus|times|over|twice|thrice|double|triple|half|(?:multiplied|divided) by|different from"
    r"|(?:half|third|quarter|square|cube|double|triple|root|power|inverse|reciprocal|opposite) of"
    r"|(?:more|less|fewer|greater|smaller|other|rather) than|(?:anything|everything|nothing|all) (?:but|except)"
    r"|(?:never|cannot|not|\w+n['’]t)(?: (?:be|been|equal|exactly|simply|just|really|to|the|an?|value|answer)){0,3}"
    r"|sqrt|log|ln|exp|sin|cos|tan)$"
)

_EMPHASIS = re.compile(r"(?<![*\\])(\*{1,3})[$ ]*$")
_OPENED = re.compile(r"(?:\s|[&~\"'`“‘(\[€£¥₹]|\\?\$|\\[(\[,;:! ]|\\(?:q?quad|displaystyle|left)(?![A-Za-z]))*$")
_CLOSED = re.compile(r"(?:\s|[$\"'`)\]”’€£¥₹¢]|\\\$|\\[)\],;:! ]|\\q?quad(?![A-Za-z])|(?<!\s)\*{1,3})*")
_CHANGING = re.compile(CHANGING_BEFORE, re.IGNORECASE)
_OPEN_LINE = re.compile(  # a line that the next one goes on with
    r"(?:(?<![-+])[-+]|[/^_×·÷{<>|]|(?<=[\w)] )\*|\\(?:times|cdot|div|pm|mp|sqrt|neq?))$"
)
_RELATION = re.compile(
    r"(?:(?<![<>/])(?<![A-Za-z\s]!)(?<!\\not)=|(?<!\d):|[≈≡→⇒∴∈—。，：；]|<[/A-Za-z][^<>]*>|"
    r"\\(?:in|equiv|approx|sim|to|implies|iff|therefore|(?:[Ll]ong)?[Rr]ightarrow)|\\\\)$"
)
_NAMED = re.compile(r"(?:(?<!\\)\b[A-Za-z]+['’]?[A-Za-z]+|[^\W\d_A-Za-z])$")
_PUNCTUATED = re.compile(
    r"(?:(?<![\d})])(?<!\b[A-Za-z])[,;]|(?<!\d)!|[.?:#]|\b[aA]|\\[)\]]|(?:(?<=[:.!?])|(?<=[a-z]{2}))\*\*|"
    r"(?:^|\n)[ \t]*[*•>]|(?:^|\s)\(?\w{1,2}[)\]]|\([^()]*[A-Za-z]{2,}[^()]*\)|\\(?:begin|end)\{\w+\*?\})$"
)
_CONTINUED = re.compile(r"[/^%×·÷]|\\(?:times|cdot|div|pm|mp|%)")
_MAY_FOLLOW = re.compile(
    r"[.!?。！？]+(?:[\s$\"'`)\]”’*\\\[<]|$)"
    r"|[,;:，；：、](?!\d)(?:[\s$(*]|\\[()\[\]])*+(?![-+]?\d|\\(?!text|end|\\)|[A-Za-z]\s*[=<>]|(?:and|or)\b[\s$(]*[-+\d\\])"
    r"|=(?!\s*[-+\\$]*(?:\d|frac))|[≈≡→⇒∴]"
    r"|\\(?:approx|equiv|sim|to|implies|iff|therefore|[Rr]ightarrow|pmod|end|begin|blacksquare|square|Box|checkmark|"
    r"qed|tag|\\)|[-–—]{1,3}\s*[A-Za-z]{2,}|[A-Za-z]{2,}|[aghlmsACFI](?![A-Za-z])|[^\W\d_A-Za-z]|[(\[][A-Za-z]{2,}|<[/|]"
)
_WORD = re.compile(r"[-–—\s]*([A-Za-z]+)")
_CHANGING_AFTER = re.compile(
    r"(?:percent|per ?cent|pct|per ?mille|basis points?|squared|cubed|factorial)\b"
    r"|(?:plus|minus|times|over|(?:divided|multiplied) by|mod|modulo|choose|to|or|and)\b[\s$*(]*(?:[-+]?\d|\\|[b-z]\b)",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"[\s$*.\\)\]]*(?:is|was|are|would|could|can|seems|looks)(?:n['’]t| not|not)\b|"
    r"[^.!?\n]*\b(?:wrong|incorrect|false)\b",
    re.IGNORECASE,
)


def stands_alone(before: str, after: str) -> bool:
    """Whether a box is an answer of its own between the text `before` and the text `after` it in its paragraph."""
    before, after = spoken(before[-CONTEXT_CHARS:]), spoken(after[:CONTEXT_CHARS])
    emphasis = _EMPHASIS.search(before)
    if emphasis and re.match(rf"[$.,:!? ]*{re.escape(emphasis[1])}", after):
        before, after = before[: emphasis.start()] + " ", after.replace(emphasis[1], "", 1)
    return _may_precede(before, after) and _may_follow(after)


def denied(after: str) -> bool:
    """Whether the text right behind a box says that it is not the answer."""
    return _DENIED.match(after[:CONTEXT_CHARS]) is not None


def _may_precede(before: str, after: str) -> bool:
    opened = _OPENED.search(before)
    between = opened[0] if opened else ""
    rest = before[: len(before) - len(between)]
    if not rest or _CHANGING.search(rest):
        return not rest
    if "\n" in between:
        return _OPEN_LINE.search(rest) is None
    if _RELATION.search(rest) or (re.search(r"\$\s+$", between) and "$" not in after.partition("\n")[0]):
        return True
    spaced = re.search(r"\s", between) is not None
    if _NAMED.search(rest):
        return spaced or "$" in between or r"\(" in between or not rest[-1].isascii()
    return spaced and _PUNCTUATED.search(rest) is not None


def _may_follow(after: str) -> bool:
    closed = _CLOSED.match(after)
    between = closed[0] if closed else ""
    rest = after[len(between) :]
    word = _WORD.match(rest)
    if word and scales(word[1]):
        return False
    if not rest or "\n" in between:
        return _CONTINUED.match(rest) is None
    if not between and (rest[0] in "([" or re.match(r"[A-Za-z](?![A-Za-z])", rest)):
        return False
    return _MAY_FOLLOW.match(rest) is not None and _CHANGING_AFTER.match(rest) is None
