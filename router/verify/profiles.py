"""Profiles: named, versioned bundles of checks, admitted once when the configuration is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec import Struct

from router.domain import CheckSpec, ToolDefinition
from router.enums import CheckClass, OnFailure
from router.errors import ConfigError, InvalidRequest, UnknownProfile
from router.tool_types import definitions
from router.verify.spec import ID, parse_checks

if TYPE_CHECKING:  # the workers import this package, and pydantic has no business there
    from router.settings import ProfileSection


class Profile(Struct, frozen=True):
    """What a request asks for by the profile's name. `samples` are the bounds of the group, None without any."""

    name: str
    version: int
    checks: tuple[CheckSpec, ...]
    samples: tuple[int, int] | None
    on_failure: OnFailure | None
    tools: tuple[ToolDefinition, ...]
    max_turns: int

    @property
    def reference(self) -> str:
        """As clients pin it."""
        return f"{self.name}@{self.version}"

    @property
    def proves(self) -> bool:
        """Whether it asks for a proof: a decisive check that has to pass."""
        return any(check.required and check.klass is CheckClass.DECISIVE for check in self.checks)


Profiles = Mapping[str, Profile]


def admit_profiles(sections: Mapping[str, ProfileSection], default_timeout_s: float) -> Profiles:
    """The configured profiles by name. Raises `ConfigError` naming the profile and the key."""
    return {name: _admit(name, section, default_timeout_s) for name, section in sections.items()}


def find_profile(reference: str, profiles: Profiles) -> Profile:
    """The profile of a `name` or `name@version`. Raises `UnknownProfile` for one that is not configured so."""
    name, at, version = reference.partition("@")
    profile = profiles.get(name)
    if profile is None or (at and version != str(profile.version)):
        raise UnknownProfile(
            f"profile {reference[:128]!r} is not configured", param="verification.profile", code="unknown_profile"
        )
    return profile


def _admit(name: str, section: ProfileSection, default_timeout_s: float) -> Profile:
    if not ID.fullmatch(name):
        raise ConfigError(f"profile {name!r}: use letters, digits, dot, dash and underscore in its name")
    bounds = section.samples
    if bounds is not None and bounds.min > bounds.max:
        raise ConfigError(f"profile {name}: samples.min is above samples.max")
    where = f"profiles.{name}.checks"
    try:
        checks = parse_checks(section.checks, where=where, default_timeout_s=default_timeout_s, id_prefix="p")
    except InvalidRequest as error:
        raise ConfigError(f"profile {name}: {error.param}: {error}") from error
    return Profile(
        name=name,
        version=section.version,
        checks=checks,
        samples=None if bounds is None else (bounds.min, bounds.max),
        on_failure=section.on_failure,
        tools=definitions(section.tools),
        max_turns=section.max_turns if section.tools else 1,
    )
