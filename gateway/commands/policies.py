"""`thinktwice policies`, `promote` and `rollback`: which policies there are, and which of them serves."""

from __future__ import annotations

import argparse
import getpass
import json
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from router.errors import ConfigError

if TYPE_CHECKING:
    from router.registry import Champion, PolicyRegistry

    Subparsers: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]


def register(subparsers: Subparsers) -> None:
    """Add the command `policies`."""
    summary = "list the policies and which of them serves"
    parser = _parser(subparsers, "policies", summary, "exit codes: 0 listed, 1 the registry is damaged, 2 usage")
    parser.set_defaults(run=run)


def register_promote(subparsers: Subparsers) -> None:
    """Add the command `promote`."""
    parser = _parser(
        subparsers,
        "promote",
        "let a policy serve as the champion",
        "exit codes: 0 it serves; 1 it is not registered, or no gateway could try it: nothing changed; 2 usage",
    )
    parser.add_argument("name", metavar="POLICY", help="a registered policy, or `base` for the base model")
    parser.add_argument("--share", type=_share, default=1.0, metavar="S", help="serve only S of requests, as a canary")
    parser.add_argument("--reason", default="", metavar="TEXT", help="why, for the history")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="gateway that tries it (default: %(default)s)")
    parser.add_argument("--untried", action="store_true", help="promote without asking a gateway to try it first")
    parser.set_defaults(run=promote)


def register_rollback(subparsers: Subparsers) -> None:
    """Add the command `rollback`."""
    parser = _parser(
        subparsers,
        "rollback",
        "withdraw the canary, or let the champion before the current one serve again",
        "exit codes: 0 it serves; 1 there is none, or the registry is damaged: nothing changed; 2 usage",
    )
    parser.add_argument("--reason", default="", metavar="TEXT", help="why, for the history")
    parser.set_defaults(run=rollback)


def run(args: argparse.Namespace) -> int:
    """Print the list. Raises `RegistryError` when the registry is damaged."""
    from gateway.policies import listing  # noqa: PLC0415  # quick `--help`

    registry, base = _registry(args)
    champion = registry.champion()
    policies = registry.policies()
    if args.json:
        print(json.dumps(listing(registry, base)))
        return 0
    trial = champion.canary
    names = [(None, f"{base or 'the first model the engine serves'} (base)")]
    for value, label in [*names, *((policy.name, policy.name) for policy in policies)]:
        share = f"  canary, {trial.share:.0%} of requests" if trial and trial.policy == value else ""
        print(f"{'* ' if value == champion.policy else '  '}{label}{share}")
    print(f"epoch {champion.epoch}; * serves as `champion`")
    return 0


def promote(args: argparse.Namespace) -> int:
    """Try the policy on a gateway's engine, then make it the champion. Raises `ThinkTwiceError`; then nothing changed.

    A gateway that tries it has it loaded, so that those that follow find it in the engine.
    """
    registry, _ = _registry(args)
    from gateway.policies import BASE  # noqa: PLC0415  # quick `--help`

    name = None if args.name == BASE else registry.get(args.name).name
    if name is not None and not args.untried:
        _try(name, args.url)
    if args.share == 1:
        _say(args, registry.promote(name, args.reason, getpass.getuser()))
    elif name is None:
        raise ConfigError("only a registered policy can be a canary: leave --share out")
    else:
        _say(args, registry.try_out(name, args.share, args.reason, getpass.getuser()))
    return 0


def rollback(args: argparse.Namespace) -> int:
    """Flip the champion back. Raises `RegistryError`; then nothing changed."""
    registry, _ = _registry(args)
    _say(args, registry.rollback(args.reason, getpass.getuser()))
    return 0


def _parser(subparsers: Subparsers, name: str, summary: str, exits: str) -> argparse.ArgumentParser:
    parser = subparsers.add_parser(name, help=summary, description=f"{summary.capitalize()}.", epilog=exits)
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration (default: ./thinktwice.toml)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0 and at most 1, such as 0.05")
    return share


def _registry(args: argparse.Namespace) -> tuple[PolicyRegistry, str | None]:
    """The configured registry, and the base model's name where one is configured."""
    from router.registry import PolicyRegistry  # noqa: PLC0415  # quick `--help`
    from router.settings import load_settings  # noqa: PLC0415

    settings = load_settings(args.config)
    return PolicyRegistry(settings.state.dir), settings.backend.model


def _try(name: str, url: str) -> None:
    """Ask a gateway for one token of the policy. Raises `ThinkTwiceError` when it cannot answer with it."""
    from gateway.client import EVALUATION, connect, one_line_errors  # noqa: PLC0415  # the SDK takes over a second to import

    with one_line_errors(url):
        connect(url).chat.completions.create(
            model=name,
            messages=[{"role": "user", "content": "Hello"}],
            max_tokens=1,
            extra_headers=dict(EVALUATION),
            reasoning_effort="low",
        )


def _say(args: argparse.Namespace, champion: Champion) -> None:
    if args.json:
        from gateway.policies import described  # noqa: PLC0415  # quick `--help`

        print(json.dumps(described(champion)))
        return
    if champion.canary is not None:
        canary = champion.canary
        print(f"{canary.policy} serves {canary.share:.0%} of requests as a canary; gateways follow within 2 s")
        return
    print(f"{champion.policy or 'the base model'} is the champion, epoch {champion.epoch}; gateways follow within 2 s")
