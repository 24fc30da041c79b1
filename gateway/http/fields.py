"""A request's JSON object as a struct, with every fault of it named by its field."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from starlette.requests import Request

from gateway.http import strict_json
from router.errors import InvalidRequest

T = TypeVar("T", bound=Struct)

_VALIDATION = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)
_UNKNOWN_FIELD = re.compile(r"unknown field `(?P<name>[^`]*)`")
_DIGITS = re.compile(r"[0-9]{1,18}")
_MISSING_FIELD = re.compile(r"missing required field `([^`]*)`")


def loads_object(body: bytes) -> dict[str, Any]:
    """The JSON object of a body. Raises `InvalidRequest`."""
    raw = strict_json.loads(body)
    if not isinstance(raw, dict):
        raise InvalidRequest("the body must be a JSON object")
    return raw


def query_of(request: Request, kind: type[T], *, integers: tuple[str, ...] = ()) -> T:
    """The query string as a `kind`, whose fields are strings but for `integers`. Raises `InvalidRequest`."""
    raw: dict[str, Any] = {}
    for name, value in request.query_params.multi_items():
        if name in raw:
            raise InvalidRequest(f"{name} is given twice", param=name)
        raw[name] = int(value) if name in integers and _DIGITS.fullmatch(value) else value
    return convert(raw, kind)


def whole_numbers(raw: dict[str, Any], names: tuple[str, ...]) -> None:
    """JSON knows one kind of number: make 16.0 in the fields `names` the integer 16."""
    for name in names:
        if isinstance(value := raw.get(name), float) and value.is_integer():
            raw[name] = int(value)


def convert(raw: dict[str, Any], kind: type[T], *, integers: tuple[str, ...] = (), cure: str = "") -> T:
    """The object as a `kind`, which forbids unknown fields. Raises `InvalidRequest`; `cure` is for an unknown field.

    `integers` are read by `whole_numbers`.
    """
    whole_numbers(raw, integers)
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        message = str(error)
        if (unknown := _UNKNOWN_FIELD.search(message)) is not None:
            name = unknown["name"]
            raise InvalidRequest(
                f"the field {name!r} is not supported{cure}", param=name, code="unknown_field"
            ) from error
        found = _VALIDATION.match(message)
        what, path = (found["what"], found["path"]) if found else (message, None)
        missing = _MISSING_FIELD.search(what)
        param = path or (missing[1] if missing else None)
        raise InvalidRequest(f"{param or 'body'}: {what}", param=param) from error
