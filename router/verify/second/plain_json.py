"""The JSON value of an answer, read with the standard library and nothing forgiven."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

from router.verify.second.reading import Unreadable

_LONGEST = 64 * 1024
_DEEPEST = 64
_LARGEST = 10**300


class NoJson(Unreadable):
    """What should be the JSON value is none."""


def json_value(text: str, number: Callable[[str], Any] = float) -> Any:
    """The text itself, else its last fenced block, else all from its first bracket to its last one.

    `number` makes what has a point or an exponent. Raises `NoJson`, or `Unreadable` for what has two meanings.
    """
    if len(text) > _LONGEST:
        raise Unreadable("a long text")
    candidate = _candidate(text.strip())

    def fraction(digits: str) -> Any:
        value = Fraction(digits)
        if value and not 1 / _LARGEST < abs(value) < _LARGEST:
            raise Unreadable("a number out of range")
        return number(digits)

    try:
        value = json.loads(candidate, object_pairs_hook=_object, parse_constant=_constant, parse_float=fraction)
    except Unreadable:
        raise
    except ValueError as error:
        raise NoJson("no JSON value") from error
    if _depth(value) > _DEEPEST:
        raise Unreadable("nested deep")
    return value


def texts(value: Any) -> Iterator[str]:
    """Every string in a JSON value, names included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield name
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


def _candidate(text: str) -> str:
    if text[:1] in ("{", "[", '"'):
        return text
    fences = [index for index, line in enumerate(text.split("\n")) if line.lstrip(" \t").startswith("```")]
    if len(fences) % 2:
        raise Unreadable("a block without an end")
    if fences:
        lines = text.split("\n")
        if any("`" in lines[index].lstrip(" \t")[3:] for index in fences):
            raise Unreadable("a line of code that looks like a fence")
        return "\n".join(lines[fences[-2] + 1 : fences[-1]]).strip()
    starts = [at for at in (text.find("{"), text.find("[")) if at >= 0]
    end = max(text.rfind("}"), text.rfind("]"))
    return text[min(starts) : end + 1] if starts and min(starts) < end else text


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise Unreadable("a name that stands twice")
    return dict(pairs)


def _constant(name: str) -> Any:
    raise Unreadable("no number of JSON")


def _depth(value: Any) -> int:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if children is None else 1 + max(map(_depth, children), default=0)
