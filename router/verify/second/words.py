"""Whether two short texts say the same: surely so, surely not, or `Unreadable`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any

from router.verify.second.reading import Unreadable

_EDGES = ".,;:!?\"'`*_ "
_WORTH = re.compile(r"(?<!\d)\.\d|\d!")
_COMMAND = re.compile(r"\\(?:text|mathrm|textbf|mathbf|textit|mbox)\s*\{([^{}]*)\}")
_ANY_COMMAND = re.compile(r"\\[A-Za-z]+")


def same_words(first: str, second: str) -> bool:
    """Whether they are equal but for case, spaces, outer punctuation and LaTeX around text.

    Raises `Unreadable` when they are equal in their letters and digits alone (`C++` and `C`, `10²` and `102`).
    """
    if _plain(first) == _plain(second) != "":
        if bool(_WORTH.search(first)) != bool(_WORTH.search(second)):
            raise Unreadable("punctuation that may be part of a number")
        return True
    if _letters(first) == _letters(second):
        raise Unreadable("nearly the same words")
    return False


def place(value: Any, among: Iterable[Any], same: Callable[[Any, Any], bool] = same_words) -> int | None:
    """The index of the first that is surely the same; None where surely none is. Raises `Unreadable`."""
    doubt: Unreadable | None = None
    for index, other in enumerate(among):
        try:
            if same(value, other):
                return index
        except Unreadable as error:
            doubt = error
    if doubt is not None:
        raise doubt
    return None


def _plain(text: str) -> str:
    text = _COMMAND.sub(r"\1", text.strip().strip("$*`").strip()).strip().strip("$*`").strip()
    return " ".join(unicodedata.normalize("NFC", text).casefold().split()).strip(_EDGES)


def _letters(text: str) -> str:
    """The letters and digits alone, of a text without its LaTeX commands, in their plainest form."""
    text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", _ANY_COMMAND.sub("", text)).casefold())
    return "".join(char for char in text if char.isalnum())
