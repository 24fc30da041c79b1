"""A request's JSON: strict, in UTF-8, and nothing in it that a group record could not hold."""

from __future__ import annotations

import json
from typing import Any

from router import strict_json
from router.errors import InvalidRequest
from router.strict_json import NotJson

_SMALLEST, _LARGEST, _MAX_INT_DIGITS = -(2**63), 2**64 - 1, 20


def loads(body: bytes) -> Any:
    """Decode a JSON document. Raises `InvalidRequest` for anything that two parsers could read differently."""
    try:
        value = strict_json.loads(body.decode("utf-8"), parse_int=_int)
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"the body is not UTF-8: {error.reason} at byte {error.start}") from error
    except NotJson as error:
        raise InvalidRequest(f"the body is refused: {error}", param=error.key) from error
    if b"\\u" in body:
        _refuse_surrogates(value)
    return value


def _int(literal: str) -> int:
    value = int(literal) if len(literal) <= _MAX_INT_DIGITS else _LARGEST + 1
    if not _SMALLEST <= value <= _LARGEST:
        raise NotJson(f"the integer {literal[:32]} does not fit in 64 bits")
    return value


def _refuse_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidRequest("the body holds half of a surrogate pair, which is no character") from error
