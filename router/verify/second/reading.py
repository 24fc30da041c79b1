"""The final answer of an accepted text, found in another way than `router.extract` finds it."""

from __future__ import annotations

import re

_MARK = re.compile(r"answer[\s*]*:|####", re.IGNORECASE)
_NUMBER = re.compile(r"-?[$€£]?\d[\d,]*(?:\.\d+)?(?:\s*/\s*\d+)?\s*(?:\\?%)?")
_FORMULA = re.compile(r"\$([^$\n]+)\$|\\\((.+?)\\\)")
_TAIL = 4000
_DRESSING = "*$` \t.:"


class Unreadable(Exception):
    """The second verifier cannot judge; the message says why."""


def stated(text: str, *, number: bool = False) -> str:
    """The answer stated last: the last box, else what follows the last mark on its line, else the last number.

    Raises `Unreadable` where there is none, or where the last paragraph holds two boxes that differ.
    """
    text = text[-_TAIL:]
    boxes = _boxes(text)
    if boxes:
        closing = _boxes(text.rstrip().rsplit("\n\n", 1)[-1])
        if len({"".join(box.split()) for box in closing}) > 1:
            raise Unreadable("two boxes")
        return boxes[-1]
    marks = list(_MARK.finditer(text))
    if marks:
        rest = text[marks[-1].end() :].strip(_DRESSING + "\n").splitlines()
        if rest:
            return rest[0].strip(_DRESSING)
    if number:
        last = list(_NUMBER.finditer(text))[-1:]
        formulas = [found for found in _FORMULA.finditer(text) if last and found.start() < last[0].end() <= found.end()]
        if last:
            return formulas[0][1] or formulas[0][2] if formulas else last[0][0].strip()
    raise Unreadable("no answer found")


def _boxes(text: str) -> list[str]:
    """The contents of the boxes that are closed, innermost of directly nested ones."""
    found: list[str] = []
    for piece in re.split(r"\\boxed\s*(?=\{)", text)[1:]:
        level = 0
        for index, char in enumerate(piece):
            level += (char == "{") - (char == "}")
            if level == 0:
                found.append(piece[1:index].strip())
                break
    return found
