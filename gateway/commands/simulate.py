"""`thinktwice simulate`: what other policies would have made of recorded groups."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from gateway.commands.bench_options import positive
from gateway.commands.replay_options import add_source, bank_problems, log_of, policy_of
from router.errors import ConfigError

if TYPE_CHECKING:
    from router.settings import Settings
    from router.simulation.problem import Problem
    from router.simulation.study import LargerBank
    from router.simulation.summary import Price

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
    parser.add_argument(
        "--larger-bank", type=Path, metavar="FILE", help="a larger model's samples of the same problems: the last wave"
    )
    parser.add_argument(
        "--larger-model", metavar="NAME", help="its name in the price table (default: [escalation] model)"
    )
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

    settings = load_settings(args.config)
    problems, policy, source = _problems(args, settings)
    if len(problems) < _LEAST_PROMPTS:
        raise ConfigError(f"{len(problems)} full groups of {policy} in {source}, and {_LEAST_PROMPTS} are needed")
    larger = None if args.larger_bank is None else _larger(args, settings, problems)
    options = Options(
        router=router_settings(settings.router),
        orders=args.orders,
        seed=args.seed,
        price=_price(args, settings, policy),
        larger=larger,
    )
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("replaying", total=STEPS)
        found = study(problems, options, lambda: bar.advance(task))
    context = environment() | {"source": source, "policy": policy, "orders": args.orders, "seed": args.seed}
    publish(report_of(found, context), args.out, args.json)
    if args.report is not None:
        write_page(found, context, args.report)
    return 0


def _price(args: argparse.Namespace, settings: Settings, policy: str) -> Price | None:
    """What tokens cost; with a larger model only where both have a price."""
    from router.simulation.summary import Price  # noqa: PLC0415  # quick `--help`

    own = settings.prices.get(args.model or policy)
    if own is None or args.larger_bank is None:
        return None if own is None else Price(own.input, own.output)
    name = args.larger_model or (settings.escalation.model if settings.escalation else "")
    larger = settings.prices.get(name)
    return None if larger is None else Price(own.input, own.output, Price(larger.input, larger.output))


def _larger(args: argparse.Namespace, settings: Settings, problems: Sequence[Problem]) -> LargerBank:
    """The samples of the larger model, problem by problem. Raises `ConfigError` where one has none."""
    from router.settings import EscalationSection  # noqa: PLC0415  # quick `--help`
    from router.simulation.study import LargerBank  # noqa: PLC0415

    found = {each.id: each for each in bank_problems(args.larger_bank, settings)}
    if missing := [each.id for each in problems if each.id not in found]:
        raise ConfigError(
            f"{args.larger_bank} lacks {len(missing)} problems, {missing[0]!r} the first: record it with the same data"
        )
    section = settings.escalation
    chance = EscalationSection.model_fields["solve_rate"].default if section is None else section.solve_rate
    return LargerBank([found[each.id] for each in problems], chance, settings.router.usd_per_solve)


def _problems(args: argparse.Namespace, settings: Settings) -> tuple[tuple[Problem, ...], str, str]:
    """Problems, the policy they are of, and where they come from."""
    if args.bank is not None:
        return bank_problems(args.bank, settings), args.policy or "bank", str(args.bank)
    from router.simulation.logged import problems_of  # noqa: PLC0415  # quick `--help`
    from router.simulation.stream import groups_of  # noqa: PLC0415

    log_dir = log_of(args, settings)
    policy = policy_of(args, settings, log_dir)
    return problems_of(groups_of(log_dir, policy), policy), policy, "the group log"
