"""The final answer of an accepted text, read in another way and more narrowly than `router.extract` finds it.

Whatever is not stated plainly, or not surely, is `Unreadable`: a second verifier may not accept what its check refuses.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from router.verify.second.touching import is_whole

_TAIL = 64 * 1024
_LONGEST = 2048
_LOOKS_MARKED = re.compile(r"answer[\s*]*:|####+", re.IGNORECASE)
_MARK = re.compile(r"(?:(?<!\w)answer[ \t*]*:|(?:(?<=\n)|(?<![\s\S]))[ \t>*]*####(?!#))[ \t*]*", re.IGNORECASE)
_BOX = re.compile(r"\\boxed[ \t]*")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_UNSURE = re.compile(
    r"maybe|perhaps|possibly|probabl|presumabl|unsure|uncertain|guess|\beither\b|alternatively|\bwait|actually|scratch|"
    r"second +thought|correction|mistake|error|wrong|incorrect|\bnot\b.{0,20}\b(?:sure|certain|right)|"
    r"\b(?:might|may|could)\b.{0,12}\bbe\b|don'?t +know|\bhmm|\b(?:is|was|seems|looks) false|\bcan(?:not|'t)\b|\bno,",
    re.IGNORECASE | re.DOTALL,
)
_OR_BESIDE = re.compile(r"\bor[\W_]*\0|\0[\W_]*(?:and/)?or\b", re.IGNORECASE)


class Unreadable(Exception):
    """The second verifier cannot judge; the message says why."""


class Stated(NamedTuple):
    """An answer that the text marks as its last: what it says, and where in the text."""

    start: int
    end: int
    content: str


def stated(text: str) -> str:
    """The answer in the last box, else behind the last mark. Raises `Unreadable` where none is stated plainly."""
    found = marked(text)
    if found is None:
        raise Unreadable("no answer found")
    return found.content


def marked(text: str) -> Stated | None:
    """The answer that is marked as final; None in a text without any mark.

    Raises `Unreadable` where another one, or a word of doubt, stands between its paragraph's start and the text's end.
    """
    if len(text) > _TAIL:
        raise Unreadable("a long text")
    boxes, lines = _boxes(text), _lines(text)
    if not boxes and not lines:
        return None
    last = boxes[-1] if boxes else lines[-1]
    if not boxes and len(lines) != len(_LOOKS_MARKED.findall(text)):
        raise Unreadable("something that is nearly a mark")
    if not 0 < len(last.content) <= _LONGEST:
        raise Unreadable("nothing is stated")
    start = text.rfind("\n\n", 0, last.start) + 1
    for other in (*boxes, *lines):
        apart = other.end <= last.start or last.end <= other.start
        if other.end > start and apart and other.content and _bare(other.content) != _bare(last.content):
            raise Unreadable("two answers")
    refuse_doubt(text[start:])
    if boxes and _OR_BESIDE.search(f"{text[: last.start]}\0{text[last.end :]}"):
        raise Unreadable("two answers")
    if speaks_of_an_answer(text[last.end :]):
        raise Unreadable("an answer in words as well")
    if boxes:
        before, behind = text[: last.start].rpartition("\n\n")[2], text[last.end :].partition("\n\n")[0]
        if not is_whole(before, behind):
            raise Unreadable("something beside the box")
    return last


def speaks_of_an_answer(text: str) -> int:
    """How often a text names an answer: it may state another one."""
    return len(re.findall(r"\b(?:answer|result|solution)\b", text, re.IGNORECASE))


def refuse_doubt(text: str) -> None:
    """Raise `Unreadable` when the words of a text say that its writer is unsure, or takes something back."""
    if _UNSURE.search(text):
        raise Unreadable("a word of doubt")


def _bare(content: str) -> str:
    return re.sub(r"[\s$]", "", content.strip(" \t$.*"))


def _boxes(text: str) -> list[Stated]:
    """The outermost boxes, with what the innermost of directly nested ones holds. Raises `Unreadable`."""
    found: list[Stated] = []
    for opening in _BOX.finditer(text):
        if found and opening.start() < found[-1].end:
            continue
        end = _closing(text, opening.end())
        content = text[opening.end() + 1 : end - 1].strip()
        while (nested := _BOX.match(content)) is not None:
            inside = content[nested.end() :]
            if _closing(inside, 0) != len(inside):
                raise Unreadable("a box beside a box")
            content = inside[1:-1].strip()
        if _BOX.search(content):
            raise Unreadable("a box in a box")
        found.append(Stated(opening.start(), end, content))
    return found


def _closing(text: str, start: int) -> int:
    """The end of the group that opens at `start`. Raises `Unreadable`."""
    level = 0
    for brace in _BRACE.finditer(text, start) if text[start : start + 1] == "{" else ():
        level += (brace[0] == "{") - (brace[0] == "}")
        if level == 0:
            return brace.end()
    raise Unreadable("a box without an end")


def _lines(text: str) -> list[Stated]:
    """What stands behind each mark on its line, or on the next that is not blank."""
    found: list[Stated] = []
    for mark in _MARK.finditer(text):
        start = mark.end()
        if not text[start:].partition("\n")[0].strip(" \t*"):
            start = len(text) - len(text[start:].lstrip(" \t\r\n*"))
        content = text[start:].partition("\n")[0]
        found.append(Stated(mark.start(), start + len(content), content.strip().strip("*").strip()))
    return found
