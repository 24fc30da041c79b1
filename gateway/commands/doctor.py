"""`thinktwice doctor`: whether what the gateway stands on will hold, and the cure for what will not."""

from __future__ import annotations

import argparse
import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from gateway.doctor.finding import Finding
    from router.settings import Settings

    Subparsers: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]

_MARKS = {"ok": "ok  ", "warning": "warn", "failed": "FAIL"}


def register(subparsers: Subparsers) -> None:
    """Add the command `doctor`."""
    summary = "examine the machine, the sandbox, the engines, Redis and the configuration"
    exits = "exit codes: 0 nothing failed (there may be warnings), 1 something failed, 2 usage or configuration"
    parser = subparsers.add_parser("doctor", help=summary, description=f"{summary.capitalize()}.", epilog=exits)
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration (default: ./thinktwice.toml)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print what was found; 1 when something failed. Raises `ConfigError` for a file that cannot be used at all."""
    from router.settings import load_settings  # noqa: PLC0415  # quick `--help`

    findings = asyncio.run(_examine(load_settings(args.config)))
    broken = [finding for finding in findings if finding.level == "failed"]
    if args.json:
        print(json.dumps({"healthy": not broken, "findings": [asdict(finding) for finding in findings]}))
        return 1 if broken else 0
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        print(f"{_MARKS[finding.level]}  {finding.name:{width}}  {finding.detail}")
        if finding.cure:
            print(f"{'':{width + 6}}  cure: {finding.cure}")
    return 1 if broken else 0


async def _examine(settings: Settings) -> list[Finding]:
    from gateway.doctor.configuration import examine_configuration  # noqa: PLC0415
    from gateway.doctor.engine import examine_engine, examine_larger  # noqa: PLC0415
    from gateway.doctor.isolation import examine_sandbox  # noqa: PLC0415
    from gateway.doctor.machine import examine_machine  # noqa: PLC0415
    from gateway.doctor.store import examine_store  # noqa: PLC0415

    findings = [*examine_configuration(settings), *examine_machine(settings), await examine_sandbox(settings)]
    for url in settings.backend.urls:
        findings += [finding async for finding in examine_engine(url, settings.backend)]
    if settings.escalation is not None:
        findings += [await examine_larger(url, settings.escalation) for url in settings.escalation.urls]
    return findings + [finding async for finding in examine_store(settings)]
