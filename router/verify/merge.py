"""A request's `verification` object, its profile and its response format become one bounded specification, or a 400."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from router.domain import MAX_SAMPLES, CheckSpec, VerificationSpec
from router.enums import OnFailure
from router.errors import InvalidRequest
from router.verify.profiles import Profile, Profiles, find_profile
from router.verify.spec import check_together, parse_checks

RESPONSE_FORMAT_ID = "response_format"
_FIELDS = ("profile", "samples", "on_failure", "checks")
_STRICTNESS = (OnFailure.RETURN, OnFailure.REFUSE, OnFailure.ERROR)


def merge(
    request: Mapping[str, Any] | None,
    header_profile: str | None,
    profiles: Profiles,
    response_format: Mapping[str, Any] | None,
    default_timeout_s: float,
) -> VerificationSpec:
    """What request, profile and response format ask for together; the request never weakens the profile.

    Raises `InvalidRequest` naming the field, `UnknownProfile` for a profile that is not configured at that version.
    """
    body = _fields(request)
    profile = _profile(body.get("profile"), header_profile, profiles)
    from_profile = () if profile is None else profile.checks
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
    check_together(checks, "verification.checks")
    minimum, maximum, given = _samples(body.get("samples"), profile)
    return VerificationSpec(
        checks=checks,
        min_samples=minimum,
        max_samples=maximum,
        samples_given=given,
        on_failure=_on_failure(body.get("on_failure"), profile),
        profile=None if profile is None else profile.reference,
        tools=() if profile is None else profile.tools,
        max_turns=1 if profile is None else profile.max_turns,
    )


def _fields(request: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if request is None:
        return {}
    if not isinstance(request, Mapping):
        raise InvalidRequest("verification must be an object", param="verification")
    for key in request:
        if key not in _FIELDS:
            raise InvalidRequest(f"unknown field; verification takes {', '.join(_FIELDS)}", param=f"verification.{key}")
    return {key: value for key, value in request.items() if value is not None}


def _profile(body: object, header: str | None, profiles: Profiles) -> Profile | None:
    param = "verification.profile"
    if body is not None and not isinstance(body, str):
        raise InvalidRequest("profile must be a string", param=param)
    named = [find_profile(reference, profiles) for reference in (body, header) if reference is not None]
    if len(named) > 1 and named[0] is not named[1]:
        raise InvalidRequest("the body and the header X-Verification-Profile name different profiles", param=param)
    return named[0] if named else None


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


def _samples(raw: object, profile: Profile | None) -> tuple[int, int, bool]:
    """Bounds of the group, clamped into the profile's, and whether any were given."""
    low, high = 1, MAX_SAMPLES
    bounds = profile.samples if profile is not None else None
    if bounds is not None:
        low, high = bounds
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


def _on_failure(raw: object, profile: Profile | None) -> OnFailure:
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
    return OnFailure.REFUSE if profile is not None and profile.proves else OnFailure.RETURN
