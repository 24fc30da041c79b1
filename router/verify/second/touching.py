"""What a box may touch, read more narrowly than `router.beside` does: a name or an equals sign, and mere words."""

from __future__ import annotations

import re

_SCALES = (
    r"\w*illions?|hundreds?|hundredths?|thousandths?|thousands?|lakhs?|crores?|gross|mille|basis|dozens?|scores?|half|"
    r"halves|thirds?|quarters?|fifths?|tenths?|k|mil|mn|bn|tn|mio|percent|per ?mille|per ?cent|pct"
)
_WORKING = "squared|cubed|factorial|plus|minus|times|over|divided|multiplied|mod|modulo|choose|or|to|and"
_AHEAD = (
    "negative|minus|plus|times|over|twice|thrice|double|triple|half|third|quarter|square|cube|root|power|inverse|"
    "reciprocal|opposite|by|different|than|but|except|and|or|sqrt|log|ln|exp|sin|cos|tan"
)
_BEHIND_WORDS = re.compile(rf"\b(?:{_SCALES}|{_WORKING})\b", re.IGNORECASE)
_AHEAD_WORDS = re.compile(rf"\b(?:{_AHEAD})\b", re.IGNORECASE)
# Words beside which a number in a sentence is another one, or none.
TURNING = re.compile(
    rf"\b(?:{_SCALES}|{_WORKING}|negative|twice|thrice|double|triple|(?:square|cube) of|root|power|inverse|reciprocal|"
    r"opposite|different|pi|tau|e|i|sqrt|log|ln|exp|sin|cos|tan|not|no|nor|never|cannot|nearly|almost|roughly|but|except|"
    r"than|more|less|fewer|greater|smaller|other|rather|at|least|most|between|about|around|under|above|below|up|by|"
    r"[a-hj-z]|infinity|remainder|base|binary|octal|hex|hexadecimal|radians|rad)\b|n['’]t\b",
    re.IGNORECASE,
)
_NEGATION = re.compile(r"\b(?:not|never|cannot)\b|n['’]t\b", re.IGNORECASE)
_DRESS = re.compile(r"(?:\s|&|\$|\\[(\[$])*\Z")
_RELATES = re.compile(r"(?:\A|(?<![!<>/])(?<!\\not)=|(?<!\d):(?:\*\*)?|\\(?:equiv|approx|in))\Z")
_NAMES = re.compile(r"(?<![\w'\\])[A-Za-z']{2,},?\Z")
_ENDS_ITS_LINE = re.compile(r"(?:(?<![\\A-Za-z])[A-Za-z]+|[\d.:$)%}!?])\Z")
_BEHIND = re.compile(
    r"(?:\*\*)?(?:[ \t]|\$|\\[)\]])*(?:\Z|\n\s*(?:\Z|[A-Za-z]|\\[\])e])|[.!]+(?=[\s$*\\]|\Z)|,\$?\s+(?=[a-z]{2})|"
    r"\\pmod|\\end|(?:\\text\{)?\s*[A-Za-z]{2})"
)
_FIRST_WORD = re.compile(r"[\W\d_]*(?:text\s*\{\s*)?(?=[A-Za-z'])")


def is_whole(before: str, behind: str) -> bool:
    """Whether a box surely is an answer of its own between what stands before and behind it in its paragraph."""
    if before.endswith("**") and behind.startswith("**"):
        before, behind = before[:-2], behind[2:]
    dress = _DRESS.search(before)
    bare = before[: dress.start()] if dress else before
    between, words = before[len(bare) :], bare.rpartition("\n")[2].split() if bare[-1:].isalpha() else []
    named = _ENDS_ITS_LINE.search(bare) if "\n" in between else between[:1].isspace() and _NAMES.search(bare)
    if not (named or _RELATES.search(bare)) or _BEHIND.match(behind) is None:
        return False
    first = _FIRST_WORD.match(behind)
    if first and _BEHIND_WORDS.match(behind, first.end()):
        return False
    if named and (_AHEAD_WORDS.search(" ".join(words[-2:])) or _NEGATION.search(" ".join(words[-4:]))):
        return False
    return _NEGATION.search(" ".join(behind.split()[:5])) is None and "false" not in behind.casefold()
