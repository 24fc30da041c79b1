"""`thinktwice evaluate`: is a policy better than the one that serves? Nothing heavy is imported before it runs."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from router.errors import ConfigError

if TYPE_CHECKING:
    Subparsers: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]

_EXITS = """exit codes: 0 evaluated, whatever the verdict (with --if-due: or not due); 1 no gateway, a policy that it
does not serve, or no answers; 2 usage or bad data; 75 with --if-due: a trainer is at work; 130 interrupted"""


def register(subparsers: Subparsers) -> None:
    """Add the command `evaluate`."""
    summary = "compare a policy with the champion on held-out questions"
    parser = subparsers.add_parser(
        "evaluate",
        help=summary,
        description=f"{summary.capitalize()}: every question is asked of both through a running gateway. Nothing is "
        "promoted.",
        epilog=_EXITS,
    )
    parser.add_argument("--candidate", metavar="POLICY", help="the policy to judge")
    parser.add_argument("--against", default="champion", metavar="POLICY", help="(default: %(default)s)")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FILE",
        help="JSON Lines: question + answer, or messages + verification",
    )
    parser.add_argument(
        "--if-due",
        action="store_true",
        help="score the champion alone, on [training] eval_data, if that is due; only --config and --json go with it",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration of --if-due")
    parser.add_argument("--limit", type=_positive, metavar="N", help="ask the first N questions")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the gateway (default: %(default)s)")
    parser.add_argument("--samples", type=int, choices=range(1, 6), default=1, help="of each answer (default: 1)")
    parser.add_argument(
        "--solve-at", type=int, choices=range(2, 6), metavar="K", help="also report, without a test, K voted samples"
    )
    parser.add_argument("--concurrency", type=_positive, default=4, help="requests at a time (default: %(default)s)")
    parser.add_argument("--alpha", type=_level, default=0.05, help="one-sided level of the test (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of order, sampling and intervals (default: %(default)s)")
    parser.add_argument("--system", metavar="TEXT", help="system message before each `question`")
    parser.add_argument("--max-tokens", type=_positive, metavar="N", help="longest completion, in tokens")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the JSON object there")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Evaluate and say what came of it. Raises `ThinkTwiceError`."""
    if args.if_due:
        from training.score import run_if_due  # noqa: PLC0415

        return run_if_due(args.config, args.json)
    if args.candidate is None or args.data is None:
        raise ConfigError("--candidate and --data are needed, or --if-due alone")
    from router.questions import load_questions  # noqa: PLC0415
    from training.comparison import compare, summaries  # noqa: PLC0415  # the SDK takes over a second to import
    from training.evaluate import Arm, Plan, evaluate  # noqa: PLC0415
    from training.evaluate_tables import show  # noqa: PLC0415
    from training.progress import asking_bar  # noqa: PLC0415

    if args.candidate == args.against:
        raise ConfigError(f"--candidate and --against are both {args.candidate}: nothing to compare")
    if args.out is not None and not args.out.parent.is_dir():
        raise ConfigError(f"there is no directory {args.out.parent}: create it or give another --out")
    plan = Plan(
        questions=load_questions(args.data, args.limit, args.system),
        names={Arm.CANDIDATE: args.candidate, Arm.CHAMPION: args.against},
        samples=args.samples,
        seed=args.seed,
        max_tokens=args.max_tokens,
        concurrency=args.concurrency,
    )
    facts = _facts(args)
    with asking_bar(len(plan.jobs())) as advance:
        served, trials = asyncio.run(evaluate(args.url, plan, advance))
    comparison = compare(plan, served, trials, args.alpha)
    report = facts | comparison.as_dict()
    at_k = None
    if args.solve_at:
        tested = [question for question in plan.questions if question.guard is None]
        more = replace(plan, questions=tested, samples=args.solve_at)
        with asking_bar(len(more.jobs())) as advance:
            at_k = summaries(more, *asyncio.run(evaluate(args.url, more, advance)))
        report["solve_at"] = {"samples": args.solve_at, "arms": {arm: asdict(each) for arm, each in at_k.items()}}
    if args.json:
        print(json.dumps(report))
    else:
        show(comparison, at_k)
    if args.out is not None:
        _write(args.out, report)
    return 0


def _facts(args: argparse.Namespace) -> dict[str, Any]:
    flags = ("candidate", "against", "samples", "seed", "max_tokens", "system")
    facts = {name: getattr(args, name) for name in flags}
    return facts | {"data": str(args.data), "data_sha256": hashlib.sha256(args.data.read_bytes()).hexdigest()}


def _write(path: Path, report: dict[str, Any]) -> None:
    from router.fs import write_durably  # noqa: PLC0415

    try:
        write_durably(path, json.dumps(report, indent=1).encode() + b"\n")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error}: give another --out") from error


def _positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return number


def _level(text: str) -> float:
    try:
        level = float(text)
    except ValueError:
        level = 0.0
    if not 0 < level < 0.5:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number between 0 and 0.5")
    return level
