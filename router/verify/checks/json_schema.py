"""`json_schema`: the answer's JSON value is valid under a schema. Nothing remote is ever fetched."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

import jsonschema_rs
import msgspec

from router.canonical import answer_json
from router.enums import CheckClass
from router.errors import InvalidRequest
from router.strict_json import NotJson
from router.verify.check_type import PASSED, CheckType, Judgement, failed, undecided
from router.verify.limits import too_deep
from router.verify.linear_regex import LinearPattern, UnsupportedPattern

MAX_SCHEMA_BYTES = 64 * 1024
MAX_SCHEMA_NODES = 2000
MAX_SCHEMA_DEPTH = 32
DRAFT_2020_12 = "https://json-schema.org/draft/2020-12/schema"
DRAFT_7 = "http://json-schema.org/draft-07/schema"
_BY_NAME = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_DATA = frozenset({"enum", "const", "default", "examples", "required", "type", "dependentRequired"})
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")


class JsonSchemaParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Fields of a `json_schema` check."""

    schema: dict[str, Any] | bool


def admit(params: JsonSchemaParams) -> None:
    """Refuse schemas that are too large, look outside, or are not schemas. Raises `InvalidRequest`."""
    schema = params.schema
    if isinstance(schema, bool):
        return
    if too_deep(schema, MAX_SCHEMA_DEPTH):
        raise _refused(f"is nested deeper than {MAX_SCHEMA_DEPTH}")
    if len(msgspec.json.encode(schema)) > MAX_SCHEMA_BYTES:
        raise _refused(f"is larger than {MAX_SCHEMA_BYTES // 1024} KiB")
    if sum(1 for _ in _nodes(schema)) > MAX_SCHEMA_NODES:
        raise _refused(f"has more than {MAX_SCHEMA_NODES} nodes")
    if str(schema.get("$schema", DRAFT_2020_12)).rstrip("#") not in (DRAFT_2020_12, DRAFT_7):
        raise _refused("must be of draft 2020-12 or draft-07")
    for part, is_root in _subschemas(schema):
        _admit_part(part, is_root=is_root)
    try:
        _validator(schema)
    except ValueError as error:
        raise _refused(f"is not valid: {str(error).splitlines()[0][:200]}") from error


def run(params: JsonSchemaParams, text: str) -> Judgement:
    """Pass when the text's one JSON value is valid."""
    try:
        value = answer_json(text)
    except NotJson as error:
        return failed(f"no JSON value: {error}")
    try:
        valid = _validator(params.schema).is_valid(value)
    except ValueError:
        return undecided("the schema or the value is beyond the validator")
    return PASSED if valid else failed("the JSON value is not valid under the schema")


def _validator(schema: dict[str, Any] | bool) -> jsonschema_rs.Draft202012Validator | jsonschema_rs.Draft7Validator:
    old = isinstance(schema, dict) and str(schema.get("$schema", "")).rstrip("#") == DRAFT_7
    return (jsonschema_rs.Draft7Validator if old else jsonschema_rs.Draft202012Validator)(
        schema, validate_formats=True, retriever=_deny, pattern_options=jsonschema_rs.RegexOptions()
    )


def _deny(uri: str) -> NoReturn:
    raise ValueError("remote references are refused")


def _refused(why: str) -> InvalidRequest:
    return InvalidRequest(why, param="schema")


def _nodes(value: Any) -> Iterator[Any]:
    yield value
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        yield from _nodes(child)


def _subschemas(schema: Any, *, is_root: bool = True) -> Iterator[tuple[dict[str, Any], bool]]:
    """Every place of `schema` that is read as a schema, not as data or as a property's name."""
    if isinstance(schema, list):
        for item in schema:
            yield from _subschemas(item, is_root=False)
    if not isinstance(schema, dict):
        return
    yield schema, is_root
    for keyword, value in schema.items():
        if keyword in _DATA:
            continue
        if keyword in _BY_NAME and isinstance(value, dict):
            for named in value.values():
                yield from _subschemas(named, is_root=False)
        else:
            yield from _subschemas(value, is_root=False)


def _admit_part(part: dict[str, Any], *, is_root: bool) -> None:
    for keyword in _REFERENCES:
        target = part.get(keyword, "#")
        if not isinstance(target, str) or not target.startswith("#"):
            raise _refused(f"has a {keyword} that leaves the schema; only references such as #/$defs/name are allowed")
    if not is_root and any(keyword in part for keyword in ("$id", "$schema", "$vocabulary")):
        raise _refused("has an $id or $schema below its root")
    patterns = [part["pattern"]] if isinstance(part.get("pattern"), str) else []
    if isinstance(part.get("patternProperties"), dict):
        patterns += part["patternProperties"]
    for pattern in patterns:
        try:
            LinearPattern(pattern)
        except UnsupportedPattern as error:
            raise InvalidRequest(f"has a pattern that {error}", param="schema", code="unsupported_pattern") from error


TYPE = CheckType("json_schema", CheckClass.DECISIVE, "1", JsonSchemaParams, admit, run)
