"""`policy`: the text holds nothing of the operator's lists. A veto: a pass earns and proves nothing.

The check names lists; `router.guardrails` puts their contents in, since a worker has no configuration.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

import msgspec

from router.enums import CheckClass, Outcome
from router.errors import InvalidRequest
from router.verify.check_type import CheckType, Judgement, failed, undecided
from router.verify.linear_regex import LinearPattern, UnsupportedPattern

MAX_LISTS = 16
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_CONTROLS = {"n": "\n", "r": "\n", "t": "\t", "b": "", "f": "\n"}


class PolicyList(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a text must not hold: words or phrases, and RE2 patterns, both without regard to case."""

    name: str
    words: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()


class PolicyParams(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Fields of a `policy` check. `contents` is ours to fill in."""

    lists: list[str]
    contents: tuple[PolicyList, ...] = ()


def admit(params: PolicyParams) -> None:
    """Refuse a check without lists, with too many, or with contents of its own. Raises `InvalidRequest`."""
    if not 1 <= len(params.lists) <= MAX_LISTS:
        raise InvalidRequest(f"must name 1 to {MAX_LISTS} lists", param="lists")
    if params.contents:
        raise InvalidRequest("is the operator's to define", param="contents")


def run(params: PolicyParams, text: str) -> Judgement:
    """Fail when a list matches, naming the list and never what matched."""
    if {each.name for each in params.contents} != set(params.lists):
        return undecided("a list is not known here")
    readings = [plain(text)]
    if "\\" in text:  # inside JSON, a letter may be written as its code
        readings.append(plain(_ESCAPE.sub(_unescaped, text)))
    for each in params.contents:
        if any(compiled(each).found_in(reading) for reading in readings):
            return failed(f"the list {each.name} matches")
    return Judgement(Outcome.PASS, None)


def plain(text: str) -> str:
    """NFKC, case-folded, without the characters that show nothing: what a reader sees is what the lists see."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", visible(text)).casefold())


def visible(text: str) -> str:
    """`text` without the characters that show nothing."""
    return "".join(char for char in _INVISIBLE.sub("", text) if char.isascii() or unicodedata.category(char) != "Cf")


@dataclass(frozen=True, slots=True)
class Compiled:
    """A list ready to be searched for."""

    words: tuple[str, ...]
    patterns: tuple[LinearPattern, ...]

    def found_in(self, text: str) -> bool:
        """Whether the plain `text` holds one of them. Words are searched as they are: no pattern is as fast."""
        spaced = " ".join(text.split())
        return any(_holds(spaced, word) for word in self.words) or any(each.search(text) for each in self.patterns)


@lru_cache(maxsize=64)
def compiled(policy_list: PolicyList) -> Compiled:
    """The list in the form of the texts it meets. Raises `UnsupportedPattern`."""
    words = tuple(" ".join(plain(word).split()) for word in policy_list.words)
    if not all(words):
        raise UnsupportedPattern("is an empty word")
    return Compiled(words, tuple(LinearPattern(f"(?i){pattern}") for pattern in policy_list.patterns))


def _holds(text: str, word: str) -> bool:
    """Whether `word` stands in `text` by itself."""
    at = text.find(word)
    while at >= 0:
        end = at + len(word)
        if not (_joined(text[at - 1 : at], word[0]) or _joined(text[end : end + 1], word[-1])):
            return True
        at = text.find(word, at + 1)
    return False


def _joined(beside: str, edge: str) -> bool:
    """Whether a character beside a word's edge makes it part of a longer word.

    Scripts without capitals mostly do not set words apart, so that there nothing does.
    """
    inside = edge.isdigit() or edge.upper() != edge.lower()
    return inside and (beside.isalnum() or beside == "_")


def _unescaped(found: re.Match[str]) -> str:
    return chr(int(found[1], 16)) if found[1] else _CONTROLS.get(found[2], found[2])


TYPE = CheckType("policy", CheckClass.VETO, "1", PolicyParams, admit, run)
