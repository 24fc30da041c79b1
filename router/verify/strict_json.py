"""JSON as the standard means it: no duplicate keys, no NaN, bounded depth. Linear in the text."""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal
from typing import Any, NoReturn

MAX_DEPTH = 64  # jsonschema-rs overflows its stack on data some 100 000 deep
_MIN_EXPONENT = -324  # of the smallest double
_OPENING, _CLOSING = "[{", "]}"
_FENCE = re.compile(r"^[ \t]*```[^\n`]*$", re.MULTILINE)


class NotJson(ValueError):
    """The text is not one JSON value within our bounds."""


def loads(text: str, *, exact_numbers: bool = False) -> Any:
    """The value of a JSON text; with `exact_numbers` fractions come as `Decimal`. Raises `NotJson`."""
    if depth(text) > MAX_DEPTH:
        raise NotJson(f"nested deeper than {MAX_DEPTH}")
    try:
        return json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_float=_decimal if exact_numbers else _float,
        )
    except NotJson:
        raise
    except ValueError as error:  # malformed, or an integer beyond the interpreter's digit limit
        raise NotJson("not a JSON value") from error


def depth(text: str) -> int:
    """The deepest nesting of brackets outside strings, in one pass."""
    level = deepest = 0
    in_string = escaped = False
    for char in text:
        if in_string:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                in_string = False
        elif char == '"':
            in_string = True
        elif char in _OPENING:
            level += 1
            deepest = max(deepest, level)
        elif char in _CLOSING:
            level -= 1
    return deepest


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise NotJson("an object has a key twice")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise NotJson(f"{name} is not JSON")


def _float(digits: str) -> float:
    _decimal(digits)
    return float(digits)


def _decimal(digits: str) -> Decimal:
    value = Decimal(digits)
    if value and (value.adjusted() < _MIN_EXPONENT or not math.isfinite(float(value))):
        raise NotJson("a number is out of range")
    return value


def span(text: str) -> str:
    """The part of `text` that is to be its JSON value.

    The whole text when it is JSON by its looks, else the last fenced block, else what lies between the first opening
    bracket and the last closing one.
    """
    text = text.strip()
    if text[:1] in _OPENING + '"' and text[:1]:
        return text
    fenced = _FENCE.split(text)
    if len(fenced) >= 3:
        never_closed = len(fenced) % 2 == 0
        return fenced[-1 if never_closed else -2].strip()
    start = min((found for char in _OPENING if (found := text.find(char)) >= 0), default=None)
    end = max(text.rfind(char) for char in _CLOSING)
    return text if start is None or end < start else text[start : end + 1]
