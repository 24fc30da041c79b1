"""`thinktwice bench verifiers`: its command line. The measurement is `gateway.bench.verifiers`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from gateway.commands.bench_options import positive

if TYPE_CHECKING:
    Subparsers: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]

_TRUTH = Path("tests/golden/verifiers/truth")


def register(subparsers: Subparsers) -> None:
    """Add the benchmark `verifiers`."""
    parser = subparsers.add_parser(
        "verifiers",
        help="how often each check accepts what is wrong or rejects what is right",
        description="Run the checks on texts whose verdict is known, in worker processes as in serving, beside "
        "math-verify alone. Needs no gateway.",
        epilog="exit codes: 0 done, 1 a gaming text was accepted, 2 usage or bad data",
    )
    parser.add_argument("--truth", type=Path, default=_TRUTH, metavar="DIR", help="the tables (default: %(default)s)")
    workers = os.cpu_count() or 1
    parser.add_argument("--workers", type=positive, default=workers, help="worker processes (default: one a core)")
    parser.add_argument("--out", type=Path, help="also write the result to this directory, as JSON and Markdown")
    parser.add_argument("--record", type=Path, metavar="FILE", help="also write the rates that /metrics shows")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, print, and return the exit code."""
    from gateway.bench import verifiers  # noqa: PLC0415  # it loads what other commands do not need

    return verifiers.run(args)
