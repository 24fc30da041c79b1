"""`thinktwice bench record`: its command line. The recording is `gateway.bench.record`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from gateway.commands.bench_options import positive

if TYPE_CHECKING:
    Subparsers: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]


def register(subparsers: Subparsers) -> None:
    """Add the benchmark `record`."""
    parser = subparsers.add_parser(
        "record",
        help="record samples as a bank for `simulate` and `calibrate`",
        description="Send every row several times to a running gateway, each a request of one sample, and keep what "
        "came (docs/simulate.md describes a bank).",
        epilog="exit codes: 0 recorded, 1 no gateway or nothing recorded, 2 usage or bad data, 130 interrupted (what "
        "was recorded stays)",
    )
    parser.add_argument("--data", type=Path, required=True, help="JSON Lines: messages + checks, or question + answer")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the bank, a new file")
    parser.add_argument("--limit", type=positive, help="use the first N rows")
    parser.add_argument("--samples", type=positive, default=5, help="of each row (default: %(default)s)")
    parser.add_argument("--temperature", type=float, default=1.0, help="of every sample (default: %(default)s)")
    parser.add_argument("--max-tokens", type=positive, default=512, help="longest completion (default: %(default)s)")
    parser.add_argument("--system", help="system message of `question` rows; empty for none")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the gateway (default: %(default)s)")
    parser.add_argument("--model", default="champion", help="model or policy name (default: %(default)s)")
    parser.add_argument("--concurrency", type=positive, default=4, help="requests at a time (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the samples (default: %(default)s)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Record, and return the exit code."""
    from gateway.bench import record  # noqa: PLC0415  # the SDK takes over a second to import

    return record.run(args)
