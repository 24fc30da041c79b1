"""JSON as a gateway must read it: one meaning only. Duplicate keys, NaN, infinities and deep nesting are refused."""

from __future__ import annotations

import json
import re
from math import isfinite
from typing import Any

from router.errors import InvalidRequest

MAX_DEPTH = 64
_SMALLEST, _LARGEST, _MAX_INT_DIGITS = -(2**63), 2**64 - 1, 20  # what the group record can hold
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")


def loads(body: bytes) -> Any:
    """Decode a UTF-8 JSON document. Raises `InvalidRequest` for anything that two parsers could read differently."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"the body is not UTF-8: {error.reason} at byte {error.start}") from error
    _refuse_depth(text)
    try:
        value = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_int
        )
    except json.JSONDecodeError as error:
        raise InvalidRequest(
            f"the body is not JSON: {error.msg} at line {error.lineno} column {error.colno}"
        ) from error
    if "\\u" in text:
        _refuse_surrogates(value)
    return value


def _refuse_depth(text: str) -> None:
    """Bound the nesting before any parser recurses."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > MAX_DEPTH:
            raise InvalidRequest(f"the body nests deeper than {MAX_DEPTH} levels")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise InvalidRequest(f"the key {twice!r} appears twice in one object", param=twice)
    return fields


def _refuse_constant(name: str) -> float:
    raise InvalidRequest(f"{name} is not a JSON number")


def _finite(literal: str) -> float:
    value = float(literal)
    if not isfinite(value):
        raise InvalidRequest(f"the number {literal[:32]} is out of range")
    return value


def _int(literal: str) -> int:
    value = int(literal) if len(literal) <= _MAX_INT_DIGITS else _LARGEST + 1
    if not _SMALLEST <= value <= _LARGEST:
        raise InvalidRequest(f"the integer {literal[:32]} does not fit in 64 bits")
    return value


def _refuse_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidRequest("the body holds half of a surrogate pair, which is no character") from error
