"""Patterns that RE2 and Python's `re` read alike. All others are `Unreadable`, and so are texts on which they differ.

They differ in POSIX classes, `{,n}`, lone braces and brackets, possessive quantifiers, `\\B`, `\\Z`, octal escapes,
flags in the middle; in `\\s` on a vertical tab; and in what `(?i)` makes of letters beyond ASCII.
"""

from __future__ import annotations

import re

from router.verify.second.reading import Unreadable

_ESCAPE = r"\\[dDwWsSntrf]|\\[!-/:-@\[-`{-~]"
_IN_CLASS = rf"{_ESCAPE}|[^\\\[\]^&~|-]"
_CLASS = rf"\[\^?(?:(?:{_IN_CLASS})(?:-(?:\\[!-/:-@\[-`{{-~]|[^\\\[\]^&~|-]))?)+-?\]"
_COUNT = r"(?:[*+?]|\{[0-9]{1,4}(?:,[0-9]{0,4})?\})"
_ALIKE = re.compile(
    rf"(?:\(\?[ims]{{1,3}}\))?(?:(?:{_ESCAPE}|{_CLASS}|[^\\\[\](){{}}^$.|*+?]|\.|\))(?:{_COUNT}\??(?![*+?{{]))?"
    r"|\((?:\?:|\?P<[A-Za-z]\w*>)?|[|^$]|\\b|\\A)*",
)
_FOLDS = re.compile(r"\(\?[ms]*i")


def admit(pattern: str) -> None:
    """Raise `Unreadable` for a pattern of which the two dialects may make different things."""
    if _ALIKE.fullmatch(pattern) is None or (_FOLDS.match(pattern) and not pattern.isascii()):
        raise Unreadable("a pattern that the engines read differently")
    try:
        re.compile(pattern, re.ASCII)
    except re.error as error:
        raise Unreadable("a pattern of RE2 alone") from error


def matches(pattern: str, text: str, *, full: bool) -> bool:
    """Whether Python's engine, which backtracks, finds a match. Raises `Unreadable`."""
    admit(pattern)
    if "\v" in text or (_FOLDS.match(pattern) and not text.isascii()):
        raise Unreadable("a text that the engines read differently")
    compiled = re.compile(pattern, re.ASCII)
    return bool(compiled.fullmatch(text) if full else compiled.search(text))
