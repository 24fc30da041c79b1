"""`thinktwice policies`: the base model, the registered policies, and which of them serves."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    Subparsers: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]


def register(subparsers: Subparsers) -> None:
    """Add the command `policies`."""
    summary = "list the policies and which of them serves"
    parser = subparsers.add_parser(
        "policies",
        help=summary,
        description=f"{summary.capitalize()}.",
        epilog="exit codes: 0 listed, 1 the registry is damaged, 2 usage",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration (default: ./thinktwice.toml)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the list. Raises `RegistryError` when the registry is damaged."""
    from router.registry import PolicyRegistry  # noqa: PLC0415  # quick `--help`
    from router.settings import load_settings  # noqa: PLC0415

    settings = load_settings(args.config)
    registry = PolicyRegistry(settings.state.dir)
    champion = registry.champion()
    policies = registry.policies()
    if args.json:
        listed = [{"name": policy.name, "path": str(policy.path), "manifest": policy.manifest} for policy in policies]
        base = settings.backend.model
        print(json.dumps({"champion": champion.policy, "epoch": champion.epoch, "base": base, "policies": listed}))
        return 0
    names = [(None, f"{settings.backend.model or 'the first model the engine serves'} (base)")]
    for value, label in [*names, *((policy.name, policy.name) for policy in policies)]:
        print(f"{'* ' if value == champion.policy else '  '}{label}")
    print(f"epoch {champion.epoch}; * serves as `champion`")
    return 0
