"""What a configuration asks that cannot work, found before anything is started."""

from __future__ import annotations

from gateway.tenants.quota import Limits, limits_of
from router.enums import ToolName
from router.errors import ConfigError, InvalidRequest
from router.guardrails import Guardrails
from router.rotation import check_rotation
from router.settings import Settings
from router.verify.measured import measured_rates
from router.verify.merge import merge
from router.verify.profiles import Profiles, admit_profiles


def check_settings(settings: Settings) -> None:
    """Find what cannot work before anything is started. Raises `ConfigError`, one line with the cure."""
    profiles = admit_profiles(settings.profiles, settings.verify.timeout_s)
    check_rotation(settings.verify.rotate, measured_rates())
    _check_tools(settings)
    _check_commands(settings)
    _check_guardrails(settings, profiles)
    limits = tenant_limits(settings)
    if limits and settings.redis.url is None and settings.server.workers > 1:
        raise ConfigError("limits of tenants are shared between workers through Redis: set [redis] url, or one worker")
    _check_value(settings)
    _check_escalation(settings)
    if not settings.prices and any(each.nanos_per_day is not None for each in limits.values()):
        raise ConfigError("usd_per_day needs a price table: add [prices.MODEL], or use tokens_per_day")
    try:
        settings.state.dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"the state directory {settings.state.dir} cannot be made ({error.strerror}): set [state] dir"
        ) from error


def tenant_limits(settings: Settings) -> dict[str, Limits]:
    """The limits of every tenant that has any. Raises `ConfigError`."""
    limits = {name: limits_of(name, section) for name, section in settings.tenants.items()}
    return {name: each for name, each in limits.items() if each is not None}


def _check_commands(settings: Settings) -> None:
    for name, profile in settings.profiles.items():
        for check in profile.checks:
            if check.get("type") == "command" and check.get("name") not in settings.sandbox.commands:
                raise ConfigError(f"profile {name}: no command {check.get('name')!r}: add [sandbox.commands.NAME]")


def _check_value(settings: Settings) -> None:
    if settings.router.usd_per_solve is not None and not settings.prices:
        raise ConfigError("usd_per_solve needs a price table: add [prices.MODEL], or use tokens_per_solve")
    values = ("usd_per_solve", "tokens_per_solve", "solve_rate_target")
    given = [name for name in values if getattr(settings.router, name) is not None]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} each say what a solved task is worth: set one of them")


def _check_escalation(settings: Settings) -> None:
    """Raise `ConfigError` for a second model that is the first, or whose price is needed and missing."""
    section = settings.escalation
    if section is None:
        return
    if section.model == settings.backend.model:
        raise ConfigError("[escalation] model is [backend] model: name another, or remove the section")
    if settings.router.tokens_per_solve is not None:
        raise ConfigError(
            "tokens_per_solve says nothing of another model's tokens: set usd_per_solve and [prices.MODEL]"
        )
    if settings.prices and section.model not in settings.prices:
        raise ConfigError(f"the larger model has no price: add [prices.{section.model!r}]")


def _check_tools(settings: Settings) -> None:
    for name, profile in settings.profiles.items():
        if ToolName.PYTHON in profile.tools and not settings.sandbox.tiers:
            raise ConfigError(f"profile {name}: the tool python needs the sandbox: set [sandbox] backend")
        if ToolName.SEARCH_NOTES in profile.tools and settings.tools.search_notes is None:
            raise ConfigError(f"profile {name}: the tool search_notes needs a folder: set [tools.search_notes] dir")


def _check_guardrails(settings: Settings, profiles: Profiles) -> None:
    """Raise `ConfigError` for lists that cannot be used, and for profiles that name others."""
    guardrails = Guardrails(settings.policy.lists)
    guardrails.check()
    if settings.policy.classifier_url is None and any(each.classifier for each in settings.policy.lists.values()):
        raise ConfigError("a policy list asks the classifier, and there is none: set [policy] classifier_url")
    for name in profiles:
        try:
            guardrails.applied(merge({"profile": name}, None, profiles, None, settings.verify.timeout_s))
        except InvalidRequest as error:
            raise ConfigError(f"profile {name}: {error}") from error
