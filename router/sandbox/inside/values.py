"""Plain values as JSON that keeps their exact types: the only thing that crosses the wall of a sandbox."""

from __future__ import annotations

from typing import Any

MAX_DEPTH = 64
MAX_CHARS = 256 * 1024  # no longer one passes as an argument, nor fits a reply


class NotPlain(TypeError):
    """A value that is not made of None, bool, int, float, str, list, tuple and dict alone, each of that very type."""


def encode(value: Any, depth: int = MAX_DEPTH) -> Any:
    """JSON for `value`: scalars as they are, floats as `{"f": hex}`, containers as `{"l": …}`, `{"t": …}`, `{"d": …}`.

    Subclasses are refused: a class of the candidate's could compare equal to anything. Raises `NotPlain`.
    """
    if depth == 0:
        raise NotPlain(f"a value nested deeper than {MAX_DEPTH}")
    kind = type(value)
    if kind is str and len(value) > MAX_CHARS:
        raise NotPlain("a text that is too long")
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return {"f": value.hex()}
    if kind is list:
        return {"l": [encode(item, depth - 1) for item in value]}
    if kind is tuple:
        return {"t": [encode(item, depth - 1) for item in value]}
    if kind is dict:
        return {"d": [[encode(key, depth - 1), encode(item, depth - 1)] for key, item in value.items()]}
    raise NotPlain(f"a value of type {kind.__name__[:80]}")


def decode(coded: Any, depth: int = MAX_DEPTH) -> Any:
    """The value `encode` made `coded` of. Raises `NotPlain` for anything else."""
    if depth == 0:
        raise NotPlain(f"a value nested deeper than {MAX_DEPTH}")
    if coded is None or isinstance(coded, bool | int | str):
        return coded
    try:
        [(tag, content)] = coded.items()
        if tag == "f":
            return float.fromhex(content)
        items = [decode(item, depth - 1) for item in content] if tag != "d" else []
        if tag == "l":
            return items
        if tag == "t":
            return tuple(items)
        if tag == "d":
            return {decode(key, depth - 1): decode(item, depth - 1) for key, item in content}
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise NotPlain("something that is no coded value") from error
    raise NotPlain("something that is no coded value")
