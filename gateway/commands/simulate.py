"""`thinktwice simulate`: what other policies would have made of recorded groups."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from gateway.commands.bench_options import positive
from gateway.commands.replay_options import add_source, bank_problems, logged_groups, policy_of
from router.errors import ConfigError

if TYPE_CHECKING:
    from router.settings import Settings
    from router.simulation.problem import Problem

    Subparsers: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]

_LEAST_PROMPTS = 10


def register(subparsers: Subparsers) -> None:
    """Add the command `simulate`."""
    summary = "replay recorded groups under other policies"
    parser = subparsers.add_parser(
        "simulate",
        help=summary,
        description="Replay a bank, or the audited groups of the log, under every baseline and under our own plan "
        "(docs/simulate.md).",
        epilog="exit codes: 0 done, 1 a check could not run, 2 usage or bad data",
    )
    add_source(parser)
    parser.add_argument(
        "--orders", type=positive, default=20, help="orders in which samples are drawn (default: %(default)s)"
    )
    parser.add_argument("--model", metavar="NAME", help="whose price of the price table applies (default: the policy)")
    parser.add_argument("--out", type=Path, help="also write the result to this directory, as JSON and Markdown")
    parser.add_argument("--report", type=Path, metavar="FILE", help="also write a web page with the pictures")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Replay, print, and return the exit code. Raises `ConfigError`."""
    from rich.console import Console  # noqa: PLC0415  # quick `--help`
    from rich.progress import Progress  # noqa: PLC0415

    from gateway.bench.report import environment  # noqa: PLC0415
    from gateway.bench.session import publish  # noqa: PLC0415
    from gateway.bootstrap.runtime import router_settings  # noqa: PLC0415
    from gateway.simulation.page import write_page  # noqa: PLC0415
    from gateway.simulation.tables import report_of  # noqa: PLC0415
    from router.settings import load_settings  # noqa: PLC0415
    from router.simulation.study import STEPS, Options, study  # noqa: PLC0415
    from router.simulation.summary import Price  # noqa: PLC0415

    settings = load_settings(args.config)
    problems, policy, source = _problems(args, settings)
    if len(problems) < _LEAST_PROMPTS:
        raise ConfigError(f"{len(problems)} full groups of {policy} in {source}, and {_LEAST_PROMPTS} are needed")
    price = settings.prices.get(args.model or policy)
    options = Options(
        router=router_settings(settings.router),
        orders=args.orders,
        seed=args.seed,
        price=Price(price.input, price.output) if price else None,
    )
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("replaying", total=STEPS)
        found = study(problems, options, lambda: bar.advance(task))
    context = environment() | {"source": source, "policy": policy, "orders": args.orders, "seed": args.seed}
    publish(report_of(found, context), args.out, args.json)
    if args.report is not None:
        write_page(found, context, args.report)
    return 0


def _problems(args: argparse.Namespace, settings: Settings) -> tuple[tuple[Problem, ...], str, str]:
    """Problems, the policy they are of, and where they come from."""
    if args.bank is not None:
        return bank_problems(args.bank, settings), args.policy or "bank", str(args.bank)
    from router.simulation.logged import problems_of  # noqa: PLC0415  # quick `--help`

    groups = logged_groups(args, settings)
    policy = policy_of(args, settings, groups)
    return problems_of(groups, policy), policy, "the group log"
