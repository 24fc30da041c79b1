"""Admission of checks: each object becomes one bounded `CheckSpec`, or a 400."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from router.domain import CheckSpec
from router.enums import CheckClass
from router.errors import InvalidRequest
from router.verify.check_type import Admitted
from router.verify.limits import MAX_CHECKS, MAX_SPEC_BYTES, MAX_TIMEOUT_S, too_deep
from router.verify.registry import CHECK_TYPES

_COMMON_FIELDS = frozenset({"type", "id", "required", "weight", "timeout_s"})
ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_FIELD_IN_MESSAGE = re.compile(r" - at `\$\.?([^`]*)`$")
_MISSING_FIELD = re.compile(r"Object missing required field `([^`]*)`")


def parse_checks(raw: object, *, where: str, default_timeout_s: float, id_prefix: str = "c") -> tuple[CheckSpec, ...]:
    """The admitted checks of a list of check objects. Raises `InvalidRequest`, whose `param` starts with `where`."""
    if not isinstance(raw, Sequence) or isinstance(raw, str | bytes):
        raise InvalidRequest("checks must be a list of objects", param=where)
    if len(raw) > MAX_CHECKS:
        raise InvalidRequest(f"at most {MAX_CHECKS} checks are allowed", param=where)
    if too_deep(raw):
        raise InvalidRequest("checks are nested too deep", param=where)
    try:
        size = len(msgspec.json.encode(raw))
    except (TypeError, ValueError, OverflowError) as error:  # a lone surrogate, or a value that is not JSON
        raise InvalidRequest("checks must be JSON", param=where) from error
    if size > MAX_SPEC_BYTES:
        raise InvalidRequest(f"checks are larger than {MAX_SPEC_BYTES // 1024} KiB", param=where)
    checks = tuple(
        _parse_check(item, f"{where}[{index}]", f"{id_prefix}{index}", default_timeout_s)
        for index, item in enumerate(raw)
    )
    check_together(checks, where)
    return checks


def check_together(checks: Sequence[CheckSpec], where: str) -> None:
    """Raise `InvalidRequest` for checks that cannot stand beside each other: too many, of one id, of no weight."""
    if len(checks) > MAX_CHECKS:
        raise InvalidRequest(f"profile and request have more than {MAX_CHECKS} checks together", param=where)
    seen: set[str] = set()
    for index, check in enumerate(checks):
        if check.id in seen:
            raise InvalidRequest(f"check id {check.id} is used twice", param=f"{where}[{index}].id")
        seen.add(check.id)
    total = sum(check.weight for check in checks)
    if checks and not 0 < total < math.inf:
        raise InvalidRequest("the weights of the checks must have a positive, finite sum", param=where)


def _parse_check(item: object, where: str, default_id: str, default_timeout_s: float) -> CheckSpec:
    if not isinstance(item, Mapping):
        raise InvalidRequest("a check must be an object", param=where)
    name = item.get("type")
    if not isinstance(name, str):
        raise InvalidRequest("a check needs a type", param=f"{where}.type")
    kind = CHECK_TYPES.get(name)
    if kind is None:
        known = ", ".join(sorted(CHECK_TYPES))
        raise InvalidRequest(
            f"check type {name[:64]!r} is not supported; types: {known}",
            param=f"{where}.type",
            code="unsupported_check",
        )
    veto = kind.klass is CheckClass.VETO
    if veto and item.get("required") is False:
        raise InvalidRequest("a veto is always required", param=f"{where}.required")
    required = veto or kind.klass is CheckClass.DECISIVE
    return CheckSpec(
        id=_id(item.get("id", default_id), where),
        type=kind.name,
        klass=kind.klass,
        version=kind.version,
        required=_bool(item.get("required", required), f"{where}.required"),
        weight=_number(item.get("weight", 1.0), f"{where}.weight", positive=False),
        timeout_s=_number(item.get("timeout_s", default_timeout_s), f"{where}.timeout_s", MAX_TIMEOUT_S),
        params=_params(kind, item, where),
    )


def _params(kind: Admitted[Any], item: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """The type's own fields, validated and admitted, as plain JSON values."""
    own = {key: value for key, value in item.items() if key not in _COMMON_FIELDS}
    for key in own:
        if key not in kind.params.__struct_fields__:
            raise InvalidRequest(f"unknown field of a {kind.name} check", param=f"{where}.{key}")
    try:
        params = msgspec.convert(own, kind.params)
        kind.admit(params)
    except msgspec.ValidationError as error:
        if (missing := _MISSING_FIELD.fullmatch(str(error))) is not None:
            raise InvalidRequest(f"a {kind.name} check needs {missing[1]}", param=f"{where}.{missing[1]}") from error
        at = _FIELD_IN_MESSAGE.search(str(error))
        param = f"{where}.{at[1]}" if at else where
        raise InvalidRequest(_FIELD_IN_MESSAGE.sub("", str(error)), param=param) from error
    except InvalidRequest as error:
        raise InvalidRequest(
            f"{error.param} of a {kind.name} check {error}",
            param=f"{where}.{error.param}",
            code=error.code,
        ) from error
    fields: dict[str, Any] = msgspec.to_builtins(params)
    return fields


def _id(value: object, where: str) -> str:
    if not isinstance(value, str) or not ID.fullmatch(value):
        raise InvalidRequest("must be 1 to 64 letters, digits, dots, dashes or underscores", param=f"{where}.id")
    return value


def _bool(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidRequest("must be true or false", param=where)
    return value


def _number(value: object, where: str, most: float = math.inf, *, positive: bool = True) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRequest("must be a number", param=where)
    if not (0 <= value <= most) or (positive and value == 0) or value >= 1e300:
        bound = f" and at most {most:g}" if most < math.inf else ""
        raise InvalidRequest(f"must be finite and {'above' if positive else 'at least'} 0{bound}", param=where)
    return float(value)
