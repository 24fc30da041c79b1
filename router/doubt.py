"""Words around an answer that make it unsure, take it back, or state another one. They are read in English.

Every pass is linear in the text.
"""

from __future__ import annotations

import re

from router.quantity import parse_quantity

_HEDGE = re.compile(
    r"\b(?:maybe|perhaps|possibly|probably|presumably|unsure|uncertain|not (?:completely |entirely |quite |really )?"
    r"(?:sure|certain)|(?:i|my|a|best) guess|guessing|either|alternatively|"
    r"(?:might|may|could) (?:also |well )?be|i don'?t know|can(?:not|'t) (?:tell|say|decide))\b",
    re.IGNORECASE,
)
_RETRACTION = re.compile(
    r"\b(?:wait|hmm+|actually|on second thoughts?|scratch that|correction|i made (?:a|an) (?:mistake|error)|"
    r"no,|that(?:'s| is) not right|(?:that's|is|was|seems|looks) (?:wrong|incorrect|false)\b)",
    re.IGNORECASE,
)
_OR_AFTER = re.compile(r"\s*[$)\]*]*\s*,?\s*(?:and/)?or\b", re.IGNORECASE)
_OR_BEFORE = re.compile(r"\b(?:or|between\b[^.!?]{1,40}\band)\s*[$(\[*]*\s*$", re.IGNORECASE)
_MODAL_BEFORE = re.compile(r"\b(?:might|may|could) (?:also |well )?be\s*:?\s*[$(\[*]*\s*$", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?]\s")
_MODAL = re.compile(r"\b(?:might|may|could) (?:also |well )?be\b", re.IGNORECASE)
_STATED = re.compile(  # where a text says in words what the answer is, and a value that could be one
    r"(?i:\b(?:answer|result|solution)(?: \w+){0,3}? (?:is|was|should be|must be|equals)\b[ \t:]*+"
    r"(?:(?:indeed|still|therefore|thus|also|simply|just|then|option|choice|letter|the|equal to)\b[ \t]*+)*+"
    r"(?:an?[ \t]++(?=[a-z]))?)"
    r"(?P<value>(?:[-+−$€£*\\\"'`(\[. ]*\d|negative\b|minus\b|[$\\( ]*\\(?:[dt]?frac|sqrt|text|boxed)|"
    r"[$*(\[ ]*[A-Za-z](?![A-Za-z'’])|[A-Z][a-z]).{0,80})"
)
_LEADING_NUMBER = re.compile(r"[\s$*\"'`(\[]*(?:\\[(\[$])?([-+−]?[$€£]?(?:\\[dt]?frac\{\d+\}\{\d+\}|[\d.,/]*\d)%?)")


def hedged(text: str) -> bool:
    """Whether words of `text` say that its writer is not sure, or takes something back."""
    return bool(_HEDGE.search(text) or _RETRACTION.search(text))


def firmly_hedged(sentence: str) -> bool:
    """Whether a sentence around an answer hedges it; a modal counts only right before the answer."""
    return bool(_HEDGE.search(_MODAL.sub(" ", sentence)))


def doubted(before: str, after: str) -> bool:
    """Whether the sentence before an answer hedges it, right before it offers another, or the text after it doubts."""
    if _OR_BEFORE.search(before) or _MODAL_BEFORE.search(before) or _RETRACTION.search(after):
        return True
    return firmly_hedged(_SENTENCE_END.split(before)[-1]) or firmly_hedged(after)


def or_follows(line: str) -> bool:
    """Whether a line that begins right behind an answer offers another one."""
    return _OR_AFTER.match(line) is not None


def contradicted(text: str, content: str) -> bool:
    """Whether `text` says in words that the answer is another than `content`."""
    return any(not _says(found["value"], content) for found in _STATED.finditer(text))


def _says(stated: str, content: str) -> bool:
    """Whether words that state a value may state `content`; beside a number only numbers count."""
    stated = re.split(r"[.;,!?](?:\s|$)", stated, maxsplit=1)[0].rpartition("=")[2]
    stated = re.sub(r"^\s*(?:negative|minus)\s+", "-", stated)
    wanted = parse_quantity(content.rpartition("=")[2])
    if wanted is None:
        return _letters(stated).startswith(_letters(content)) or _letters(content).endswith(_letters(stated))
    number = _LEADING_NUMBER.match(stated)
    said = parse_quantity(number[1]) if number else None
    return said is None or said.value == wanted.value


def _letters(text: str) -> str:
    return re.sub(r"\\[A-Za-z]+|[^\w+./-]", "", text).casefold().strip(".")
