"""The second verifier of `json_schema`: the Python implementation, for schemas that both read alike."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from types import MappingProxyType
from typing import Any

from router.verify.checks.json_schema import DRAFT_7, JsonSchemaParams
from router.verify.second import pattern
from router.verify.second.plain_json import json_value, texts
from router.verify.second.reading import Unreadable

_EXACT = 2**53  # beyond it a double is no longer every integer
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_MOMENT = re.compile(rf"([0-9-]{{10}})T{_TIME}:[0-5][0-9](?:\.[0-9]{{1,6}})?(?:Z|[+-]{_TIME})")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9]|-(?!-)(?=[A-Za-z0-9])){0,61}"
_MAIL = re.compile(rf"[A-Za-z0-9_+]+(?:[.-][A-Za-z0-9_+]+)*@{_LABEL}(?:\.{_LABEL})*\.[A-Za-z]{{2,24}}")
_LONGEST_MAIL, _UUID_DIGITS = 64, 32
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


def _is_date(text: str) -> bool:
    if _DATE.fullmatch(text) is None:
        return False
    try:
        return date.fromisoformat(text).year > 0
    except ValueError:
        return _surely_not(text[:4] == "0000")


def _is_moment(text: str) -> bool:
    if not _is_date(text[:10]):
        return False
    return _MOMENT.fullmatch(text) is not None or _surely_not(text[10:11] in ("T", "t", " "))


def _is_address(kind: Callable[[str], object]) -> Callable[[str], bool]:
    def of_kind(text: str) -> bool:
        try:
            kind(text)
        except ValueError:
            return _surely_not(re.fullmatch(r"[0-9A-Fa-f.:]+", text) is not None)
        return "%" not in text or _surely_not(True)

    return of_kind


def _is_mail(text: str) -> bool:
    return (len(text) <= _LONGEST_MAIL and _MAIL.fullmatch(text) is not None) or _surely_not("@" in text)


def _is_uuid(text: str) -> bool:
    return _UUID.fullmatch(text) is not None or _surely_not(len(text) >= _UUID_DIGITS)


def _surely_not(near: bool) -> bool:
    """False; raises `Unreadable` for what is near enough that the check may take it: a `not` would turn it round."""
    if near:
        raise Unreadable("a text that is nearly of the format")
    return False


_FORMATS: Mapping[str, Callable[[str], bool]] = MappingProxyType(
    {
        "date": _is_date,
        "date-time": _is_moment,
        "email": _is_mail,
        "ipv4": _is_address(ipaddress.IPv4Address),
        "ipv6": _is_address(ipaddress.IPv6Address),
        "uuid": _is_uuid,
    }
)


def admit(params: JsonSchemaParams) -> None:
    """Raise `Unreadable` for a schema that the two implementations may read differently.

    They differ in formats (Python asserts few of them, and those loosely), in patterns, and in fractions and huge
    integers as bounds.
    """
    for part in _parts(params.schema):
        asserted = part.get("format")
        if isinstance(asserted, str) and asserted not in _FORMATS:
            raise Unreadable("a format that only the check asserts")
        step = part.get("multipleOf")
        if isinstance(step, float) and not step.is_integer():
            raise Unreadable("a fraction as a step")
        for each in _patterns(part):
            pattern.admit(each)
    _refuse_huge(params.schema)


def valid(params: JsonSchemaParams, text: str) -> bool:
    """Whether the JSON value of the text is valid; nothing remote is ever fetched. Raises `Unreadable`."""
    # Imported here: it takes 0.1 s, and most workers never audit a schema.
    import jsonschema  # noqa: PLC0415
    from referencing import Registry  # noqa: PLC0415

    admit(params)
    value = json_value(text)
    _refuse_huge(value)
    if any(any(_patterns(part)) for part in _parts(params.schema)) and not all(map(_plain, texts(value))):
        raise Unreadable("a text that the engines read differently")
    formats = jsonschema.FormatChecker(formats=())
    for name, holds in _FORMATS.items():
        formats.checks(name)(lambda item, holds=holds: not isinstance(item, str) or holds(item))
    old = isinstance(params.schema, dict) and str(params.schema.get("$schema", "")).rstrip("#") == DRAFT_7
    kind = jsonschema.Draft7Validator if old else jsonschema.Draft202012Validator
    registry: Registry[Any] = Registry()
    return bool(kind(params.schema, registry=registry, format_checker=formats).is_valid(value))


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    """Every object in a schema, those that are data included: too many are refused rather than too few."""
    if isinstance(schema, dict):
        yield schema
    for child in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from _parts(child)


def _patterns(part: dict[str, Any]) -> list[str]:
    of_names = part.get("patternProperties")
    found = [part["pattern"]] if isinstance(part.get("pattern"), str) else []
    return [*found, *of_names] if isinstance(of_names, dict) else found


def _plain(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _refuse_huge(value: Any) -> None:
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else (value,):
        if isinstance(child, dict | list):
            _refuse_huge(child)
        elif isinstance(child, int | float) and abs(child) > _EXACT:
            raise Unreadable("a number beyond a double's integers")
