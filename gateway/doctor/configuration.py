"""The configuration: what `serve` would refuse, and who could call it."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.bootstrap.checks import check_settings
from gateway.doctor.finding import Finding, failed, good, warning
from gateway.tenants.key_file import KeyFile
from router.errors import ConfigError
from router.settings import Settings


def examine_configuration(settings: Settings) -> Iterator[Finding]:
    """What can be seen without starting anything."""
    try:
        check_settings(settings)
        yield good("configuration", f"{len(settings.profiles)} profiles, {len(settings.tenants)} tenants")
    except ConfigError as error:
        yield failed("configuration", str(error), "correct thinktwice.toml, or the variable of that name")
    if not settings.prices:
        yield warning("prices", "none: costs are null", "add [prices.MODEL], US dollars per million tokens")
    try:
        keys = KeyFile(settings.state.dir, settings.keys.pepper).stored()
    except ConfigError as error:
        yield failed("keys", str(error), "restore the state directory from its backup")
        return
    if keys:
        yield good("keys", f"{len(keys)} made")
    else:
        yield warning("keys", "none: loopback only, every caller is `local`", "`thinktwice keys create --tenant NAME`")
