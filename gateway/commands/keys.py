"""`thinktwice keys`: create, list and revoke the API keys of a gateway."""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from router.errors import ConfigError

if TYPE_CHECKING:
    from gateway.tenants.key_file import KeyFile
    from gateway.tenants.keys import StoredKey

    Subparsers: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]

_EXITS = "exit codes: 0 done, 2 usage, or the keys cannot be read or written"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_COLUMNS = ("id", "tenant", "role", "state", "created", "expires", "profiles")


def register(subparsers: Subparsers) -> None:
    """Add the command `keys`."""
    summary = "create, list and revoke API keys"
    parser = subparsers.add_parser("keys", help=summary, description="Create, list and revoke API keys.", epilog=_EXITS)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--config", type=Path, metavar="FILE", help="configuration (default: ./thinktwice.toml)")
    options.add_argument("--json", action="store_true", help="print one JSON object")

    def add(name: str, run: Callable[[argparse.Namespace], int], summary: str) -> argparse.ArgumentParser:
        action = actions.add_parser(
            name, help=summary, description=f"{summary.capitalize()}.", epilog=_EXITS, parents=[options]
        )
        action.set_defaults(run=run)
        return action

    creating = add("create", create, "make a key and print it, this once")
    whose = creating.add_mutually_exclusive_group(required=True)
    whose.add_argument("--tenant", metavar="NAME", help="whose key it is")
    whose.add_argument("--replaces", metavar="ID", help="a successor of this key, with its tenant, role and profiles")
    creating.add_argument("--role", choices=("user", "admin"), help="what it may do (default: user)")
    creating.add_argument("--profiles", metavar="A,B", help="verification profiles it may name (default: all)")
    creating.add_argument("--expires", type=duration, metavar="TIME", help="lifetime, as in 90d, 12h (default: none)")
    creating.add_argument(
        "--overlap", type=duration, metavar="TIME", help="how long the replaced key still lives (default: 24h)"
    )
    add("list", show, "show the keys there are, never their secrets")
    revoking = add("revoke", revoke, "let a key open nothing from now on")
    revoking.add_argument("id", metavar="ID", help="as `keys list` shows it")


def create(args: argparse.Namespace) -> int:
    """Make a key and print it. Raises `ConfigError`."""
    from gateway.tenants.keys import TENANT_NAME, Role  # noqa: PLC0415  # quick `--help`

    file = _file(args)
    if args.replaces is not None:
        if args.role is not None or args.profiles is not None:
            raise ConfigError(
                "a successor has the role and profiles of the key it replaces: leave out --role, --profiles"
            )
        overlap_s = 86400.0 if args.overlap is None else args.overlap
        key, kept = file.replace(args.replaces, overlap_s, expires_s=args.expires)
    else:
        if args.overlap is not None:
            raise ConfigError("--overlap belongs to --replaces ID")
        if TENANT_NAME.fullmatch(args.tenant) is None:
            raise ConfigError(f"{args.tenant!r} is no tenant's name: use a-z, 0-9, `.`, `_` and `-`, 64 at most")
        profiles = None if args.profiles is None else [name.strip() for name in args.profiles.split(",")]
        key, kept = file.create(args.tenant, Role(args.role or "user"), expires_s=args.expires, profiles=profiles)
    if args.json:
        print(json.dumps({"key": key, **_shown(kept, time.time())}))
    else:
        print(key)
    return 0


def show(args: argparse.Namespace) -> int:
    """Print the keys. Raises `ConfigError`."""
    now = time.time()
    shown = [_shown(key, now) for key in _file(args).stored()]
    if args.json:
        print(json.dumps({"keys": shown}))
        return 0
    rows = [_COLUMNS, *(tuple(_cell(row[column]) for column in _COLUMNS) for row in shown)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def revoke(args: argparse.Namespace) -> int:
    """Revoke a key. Raises `ConfigError`."""
    kept = _file(args).revoke(args.id)
    print(json.dumps(_shown(kept, time.time())) if args.json else f"{kept.id} is revoked; gateways follow within 2 s")
    return 0


def duration(text: str) -> float:
    """Seconds of a time such as `30m`, `12h` or `90d`. Raises `argparse.ArgumentTypeError`."""
    found = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: give a number and s, m, h or d, as in 24h")
    return float(int(found[1]) * _UNITS[found[2]])


def _file(args: argparse.Namespace) -> KeyFile:
    from gateway.tenants.key_file import KeyFile  # noqa: PLC0415  # quick `--help`
    from router.settings import load_settings  # noqa: PLC0415

    settings = load_settings(args.config)
    return KeyFile(settings.state.dir, settings.keys.pepper)


def _shown(key: StoredKey, now: float) -> dict[str, object]:
    """All of a key but its digest."""
    profiles = None if key.profiles is None else list(key.profiles)
    times = {name: None if (at := getattr(key, name)) is None else _iso(at) for name in ("created", "expires")}
    return {
        "id": key.id,
        "tenant": key.tenant,
        "role": key.role,
        "state": key.state(now),
        **times,
        "profiles": profiles,
    }


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _cell(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value)) or "none"
    return "-" if value is None else str(value)
