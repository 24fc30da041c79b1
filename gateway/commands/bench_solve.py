"""`thinktwice bench solve`: its command line. The measurement is `gateway.bench.solve`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    Subparsers: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]


def register(subparsers: Subparsers) -> None:
    """Add the benchmark `solve`."""
    parser = subparsers.add_parser(
        "solve",
        help="solve rate and cost of always-1, always-5 and auto",
        description="Send every row under every policy to a running gateway and compare what they solve and cost.",
        epilog="exit codes: 0 done, 1 no gateway or no request answered, 2 usage or bad data, 130 interrupted "
        "(what was measured is printed)",
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="JSON Lines: messages + verification, or question + answer"
    )
    parser.add_argument("--limit", type=_positive, help="use the first N rows")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the gateway (default: %(default)s)")
    parser.add_argument("--model", default="champion", help="model or policy name (default: %(default)s)")
    parser.add_argument("--policies", default="always-1,always-5,auto", help="comma-separated (default: %(default)s)")
    parser.add_argument("--concurrency", type=_positive, default=4, help="requests at a time (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the order and the intervals (default: %(default)s)")
    parser.add_argument("--max-tokens", type=_positive, help="longest completion, in tokens")
    system = parser.add_mutually_exclusive_group()
    system.add_argument("--system", help="system message of `question` rows; empty for none")
    system.add_argument("--system-file", type=Path, help="the same, from a file")
    parser.add_argument("--out", type=Path, help="also write the result to this directory, as JSON and Markdown")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, print, and return the exit code."""
    from gateway.bench import solve  # noqa: PLC0415  # the SDK takes over a second to import

    return solve.run(args)


def _positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return number
