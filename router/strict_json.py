"""JSON with one meaning only: no duplicate keys, no NaN or infinity, bounded depth. Linear in the text."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any, NoReturn

MAX_DEPTH = 64  # jsonschema-rs overflows its stack on data some 100 000 deep
_MIN_EXPONENT = -324  # of the smallest double
_OPENING, _CLOSING = "[{", "]}"
_FENCE = re.compile(r"^[ \t]*```[^\n`]*$", re.MULTILINE)
_STRING = re.compile(r'"[^"\\]*+(?:\\.?[^"\\]*+)*+(?:"|\Z)', re.DOTALL)  # in one pass, closed or not
_BRACKET = re.compile(r"[\[\]{}]")


class NotJson(ValueError):
    """The text is not one JSON value within our bounds; `key` is the one that appears twice, where that is why."""

    def __init__(self, message: str, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key


def loads(text: str, *, exact_numbers: bool = False, parse_int: Callable[[str], int] = int) -> Any:
    """The value of a JSON text; with `exact_numbers` fractions come as `Decimal`. Raises `NotJson`."""
    if text.count("[") + text.count("{") > MAX_DEPTH and depth(text) > MAX_DEPTH:  # brackets bound the depth
        raise NotJson(f"nested deeper than {MAX_DEPTH} levels")
    try:
        return _decoder(exact_numbers, parse_int).decode(text)
    except NotJson:
        raise
    except json.JSONDecodeError as error:
        raise NotJson(f"not JSON: {error.msg} at line {error.lineno} column {error.colno}") from error
    except ValueError as error:  # an integer beyond the interpreter's digit limit
        raise NotJson("an integer is out of range") from error


@cache
def _decoder(exact_numbers: bool, parse_int: Callable[[str], int]) -> json.JSONDecoder:
    return json.JSONDecoder(
        object_pairs_hook=_unique,
        parse_constant=_refuse_constant,
        parse_float=_decimal if exact_numbers else _float,
        parse_int=parse_int,
    )


def depth(text: str) -> int:
    """The deepest nesting of brackets outside strings."""
    level = deepest = 0
    for bracket in _BRACKET.findall(_STRING.sub("", text)):
        level += 1 if bracket in _OPENING else -1
        deepest = max(deepest, level)
    return deepest


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise NotJson(f"the key {twice!r} appears twice in one object", twice)
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise NotJson(f"{name} is not a JSON number")


def _float(digits: str) -> float:
    _decimal(digits)
    return float(digits)


def _decimal(digits: str) -> Decimal:
    try:
        value = Decimal(digits)
    except InvalidOperation as error:  # an exponent of more digits than it has
        raise NotJson(f"the number {digits[:32]} is out of range") from error
    if value and (value.adjusted() < _MIN_EXPONENT or not math.isfinite(float(value))):
        raise NotJson(f"the number {digits[:32]} is out of range")
    return value


def span(text: str) -> str:
    """The part of `text` that is to be its JSON value.

    The whole text when it is JSON by its looks, else the last fenced block, else what lies between the first opening
    bracket and the last closing one.
    """
    text = text.strip()
    if text[:1] in _OPENING + '"' and text[:1]:
        return text
    if (block := last_fenced_block(text)) is not None:
        return block.strip()
    start = min((found for char in _OPENING if (found := text.find(char)) >= 0), default=None)
    end = max(text.rfind(char) for char in _CLOSING)
    return text if start is None or end < start else text[start : end + 1]


def last_fenced_block(text: str) -> str | None:
    """What the last fenced block of `text` holds, up to the end of a text that was cut inside it; None without one."""
    fenced = _FENCE.split(text)
    if len(fenced) < 3:
        return None
    never_closed = len(fenced) % 2 == 0
    return fenced[-1 if never_closed else -2]
