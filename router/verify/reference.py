"""The check that a reference answer stands for."""

from __future__ import annotations

import re
from typing import Any

_NUMBER = re.compile(r"[-+]?(\d{1,3}(,\d{3})+|\d+)?(\.\d+)?([eE][-+]?\d+)?")


def reference_check(answer: Any) -> dict[str, Any]:
    """The check of an `answer`: `numeric` for a number, else `math`. Raises `ValueError` for what is neither."""
    if isinstance(answer, bool) or not isinstance(answer, str | int | float) or not str(answer).strip():
        raise ValueError("`answer` is not a number or text: write the expected final answer")
    text = str(answer).strip()
    is_number = _NUMBER.fullmatch(text) and re.search(r"\d", text.split("e")[0].split("E")[0])
    return {"type": "numeric" if is_number else "math", "reference": text}
