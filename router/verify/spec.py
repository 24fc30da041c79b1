"""Admission: a request's `verification` object and its profile become one bounded specification, or a 400."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from router.domain import MAX_SAMPLES, CheckSpec, VerificationSpec
from router.enums import CheckClass, OnFailure
from router.errors import ConfigError, InvalidRequest, UnknownProfile
from router.tool_types import definitions
from router.verify.check_type import Admitted
from router.verify.limits import MAX_CHECKS, MAX_SPEC_BYTES, MAX_TIMEOUT_S, too_deep
from router.verify.registry import CHECK_TYPES

if TYPE_CHECKING:  # the workers import this package, and pydantic has no business there
    from router.settings import ProfileSection

RESPONSE_FORMAT_ID = "response_format"
_COMMON_FIELDS = frozenset({"type", "id", "required", "weight", "timeout_s"})
_VERIFICATION_FIELDS = ("profile", "samples", "on_failure", "checks")
_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_FIELD_IN_MESSAGE = re.compile(r" - at `\$\.?([^`]*)`$")
_MISSING_FIELD = re.compile(r"Object missing required field `([^`]*)`")
_STRICTNESS = (OnFailure.RETURN, OnFailure.REFUSE, OnFailure.ERROR)


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
    _check_together(checks, where)
    return checks


def merge(
    request: Mapping[str, Any] | None,
    header_profile: str | None,
    profiles: Mapping[str, ProfileSection],
    response_format: Mapping[str, Any] | None,
    default_timeout_s: float,
) -> VerificationSpec:
    """What request, profile and response format ask for together; the request never weakens the profile.

    Raises `InvalidRequest` naming the field, `UnknownProfile` for a profile that is not configured at that version.
    """
    body = _fields(request)
    name, profile = _resolve(body.get("profile"), header_profile, profiles)
    from_profile = () if profile is None else _profile_checks(name or "", profile, default_timeout_s)
    from_request: tuple[CheckSpec, ...] = ()
    if "checks" in body:
        from_request = parse_checks(body["checks"], where="verification.checks", default_timeout_s=default_timeout_s)
    implied = _implied(response_format, default_timeout_s)
    for index, check in enumerate(from_request):
        if any(check.id == other.id for other in (*from_profile, *implied)):
            raise InvalidRequest(
                f"check id {check.id} is taken by the profile or the response format",
                param=f"verification.checks[{index}].id",
            )
    checks = (*from_profile, *from_request, *implied)
    _check_together(checks, "verification.checks")
    minimum, maximum, given = _samples(body.get("samples"), profile)
    return VerificationSpec(
        checks=checks,
        min_samples=minimum,
        max_samples=maximum,
        samples_given=given,
        on_failure=_on_failure(body.get("on_failure"), profile, from_profile),
        profile=None if profile is None else f"{name}@{profile.version}",
        tools=() if profile is None else definitions(profile.tools),
        max_turns=profile.max_turns if profile is not None and profile.tools else 1,
    )


def check_profiles(profiles: Mapping[str, ProfileSection], default_timeout_s: float = MAX_TIMEOUT_S) -> None:
    """Admit every profile at start-up. Raises `ConfigError` naming the profile and the key."""
    for name, profile in profiles.items():
        if not _ID.fullmatch(name):
            raise ConfigError(f"profile {name!r}: use letters, digits, dot, dash and underscore in its name")
        if profile.samples is not None and profile.samples.min > profile.samples.max:
            raise ConfigError(f"profile {name}: samples.min is above samples.max")
        try:
            _profile_checks(name, profile, default_timeout_s)
        except InvalidRequest as error:
            raise ConfigError(f"profile {name}: {error.param}: {error}") from error


def _profile_checks(name: str, profile: ProfileSection, default_timeout_s: float) -> tuple[CheckSpec, ...]:
    where = f"profiles.{name}.checks"
    return parse_checks(profile.checks, where=where, default_timeout_s=default_timeout_s, id_prefix="p")


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


def _check_together(checks: Sequence[CheckSpec], where: str) -> None:
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


def _fields(request: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if request is None:
        return {}
    if not isinstance(request, Mapping):
        raise InvalidRequest("verification must be an object", param="verification")
    for key in request:
        if key not in _VERIFICATION_FIELDS:
            raise InvalidRequest(
                f"unknown field; verification takes {', '.join(_VERIFICATION_FIELDS)}", param=f"verification.{key}"
            )
    return {key: value for key, value in request.items() if value is not None}


def _resolve(
    body: object, header: str | None, profiles: Mapping[str, ProfileSection]
) -> tuple[str | None, ProfileSection | None]:
    param = "verification.profile"
    if body is not None and not isinstance(body, str):
        raise InvalidRequest("profile must be a string", param=param)
    named = [_find(reference, profiles) for reference in (body, header) if reference is not None]
    if len({name for name, _ in named}) > 1:
        raise InvalidRequest("the body and the header X-Verification-Profile name different profiles", param=param)
    return named[0] if named else (None, None)


def _find(reference: str, profiles: Mapping[str, ProfileSection]) -> tuple[str, ProfileSection]:
    name, at, version = reference.partition("@")
    profile = profiles.get(name)
    if profile is None or (at and version != str(profile.version)):
        raise UnknownProfile(
            f"profile {reference[:128]!r} is not configured", param="verification.profile", code="unknown_profile"
        )
    return name, profile


def _implied(response_format: Mapping[str, Any] | None, default_timeout_s: float) -> tuple[CheckSpec, ...]:
    if not isinstance(response_format, Mapping) or response_format.get("type") != "json_schema":
        return ()
    where = "response_format.json_schema"
    wrapper = response_format.get("json_schema")
    if not isinstance(wrapper, Mapping):
        raise InvalidRequest("json_schema must be an object", param=where)
    if wrapper.get("schema") is None:
        return ()
    check = {"type": "json_schema", "id": RESPONSE_FORMAT_ID, "schema": wrapper["schema"]}
    try:
        return parse_checks([check], where=where, default_timeout_s=default_timeout_s)
    except InvalidRequest as error:
        param = (error.param or where).replace(f"{where}[0]", where)
        raise InvalidRequest(str(error), param=param, code=error.code) from error


def _samples(raw: object, profile: ProfileSection | None) -> tuple[int, int, bool]:
    """Bounds of the group, clamped into the profile's, and whether any were given."""
    low, high = 1, MAX_SAMPLES
    bounds = profile.samples if profile is not None else None
    if bounds is not None:
        low, high = bounds.min, bounds.max
    if raw is None:
        return low, high, bounds is not None
    where = "verification.samples"
    if not isinstance(raw, Mapping):
        raise InvalidRequest("samples must be an object", param=where)
    for key, value in raw.items():
        if key not in ("min", "max"):
            raise InvalidRequest("unknown field; samples takes min and max", param=f"{where}.{key}")
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_SAMPLES:
            raise InvalidRequest(f"must be a whole number from 1 to {MAX_SAMPLES}", param=f"{where}.{key}")
    if raw.get("min", 1) > raw.get("max", MAX_SAMPLES):
        raise InvalidRequest("samples.min is above samples.max", param=f"{where}.min")
    minimum = min(max(raw.get("min", low), low), high)
    maximum = min(max(raw.get("max", high), low), high)
    # A bound that only one side gave yields to the other side's: `max: 2` under a profile's `min: 3` stays at 3.
    return min(minimum, maximum), maximum, bool(raw) or bounds is not None


def _on_failure(raw: object, profile: ProfileSection | None, from_profile: Sequence[CheckSpec]) -> OnFailure:
    """The stricter of what profile and request ask for; see DESIGN section 2 for the default."""
    asked: OnFailure | None = None
    if raw is not None:
        if not isinstance(raw, str) or raw not in tuple(OnFailure):
            raise InvalidRequest("must be return, refuse or error", param="verification.on_failure")
        asked = OnFailure(raw)
    if profile is not None and profile.on_failure is not None:
        return max(profile.on_failure, asked or OnFailure.RETURN, key=_STRICTNESS.index)
    if asked is not None:
        return asked
    proves = any(check.required and check.klass is CheckClass.DECISIVE for check in from_profile)
    return OnFailure.REFUSE if proves else OnFailure.RETURN


def _id(value: object, where: str) -> str:
    if not isinstance(value, str) or not _ID.fullmatch(value):
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
