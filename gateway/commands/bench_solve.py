"""`thinktwice bench solve`: its command line. The measurement is `gateway.bench.solve`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from gateway.commands.bench_options import EXIT_CODES, add_common, positive

if TYPE_CHECKING:
    Subparsers: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]


def register(subparsers: Subparsers) -> None:
    """Add the benchmark `solve`."""
    parser = subparsers.add_parser(
        "solve",
        help="solve rate and cost of always-1, always-5 and auto",
        description="Send every row under every policy to a running gateway and compare what they solve and cost.",
        epilog=EXIT_CODES,
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="JSON Lines: messages + verification, or question + answer"
    )
    parser.add_argument("--limit", type=positive, help="use the first N rows")
    parser.add_argument("--policies", default="always-1,always-5,auto", help="comma-separated (default: %(default)s)")
    parser.add_argument("--max-tokens", type=positive, help="longest completion, in tokens")
    system = parser.add_mutually_exclusive_group()
    system.add_argument("--system", help="system message of `question` rows; empty for none")
    system.add_argument("--system-file", type=Path, help="the same, from a file")
    add_common(parser, seed="the order and the intervals")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, print, and return the exit code."""
    from gateway.bench import solve  # noqa: PLC0415  # the SDK takes over a second to import

    return solve.run(args)
