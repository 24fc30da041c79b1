"""`thinktwice serve`: the gateway, one process a worker, each with its own socket on the same port."""

from __future__ import annotations

import argparse
import ipaddress
import logging
from pathlib import Path

from gateway.commands.port import listener, reserved_port
from gateway.commands.serving import LOG_FORMAT, serve
from gateway.commands.supervisor import supervise
from router.errors import ConfigError
from router.settings import Settings, load_settings


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser("serve", help="run the gateway in front of an engine")
    parser.add_argument("--config", type=Path, help="configuration file (default: ./thinktwice.toml when it is there)")
    parser.add_argument("--host", help="address to bind (default 127.0.0.1)")
    parser.add_argument("--port", type=int, help="TCP port (default 8000)")
    parser.add_argument("--workers", type=int, help="serving processes (default 1)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until a signal. Exit codes: 0 stopped, 1 a part did not start, 2 unusable configuration."""
    given = {name: getattr(args, name) for name in ("host", "port", "workers") if getattr(args, name) is not None}
    settings = load_settings(args.config, {"server": given} if given else None)
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    _check(settings)
    if settings.server.workers > 1:
        return supervise(settings)
    with reserved_port(settings.server.host, settings.server.port) as port:
        return serve(settings, [listener(settings.server.host, port)])


def _check(settings: Settings) -> None:
    """Find what cannot work before any socket is bound. Raises `ConfigError`."""
    from gateway.bootstrap.checks import check_settings  # noqa: PLC0415 - keeps `--help` quick
    from gateway.tenants.key_file import KeyFile  # noqa: PLC0415

    check_settings(settings)
    keyed = bool(KeyFile(settings.state.dir, settings.keys.pepper).ring())
    if not _is_loopback(settings.server.host) and not keyed:
        raise ConfigError(
            f"refusing to bind {settings.server.host}: there are no API keys, and without keys the gateway binds"
            " loopback only; make one with `thinktwice keys create --tenant NAME`, or use --host 127.0.0.1"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError as error:
        raise ConfigError(f"server.host {host!r} is not an IP address: use 127.0.0.1 or ::1") from error
