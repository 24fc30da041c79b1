"""`thinktwice bench NAME`: benchmarks, all but one against a running gateway."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, TypeAlias

from gateway.commands import bench_record, bench_solve, bench_tasks, bench_verifiers

if TYPE_CHECKING:
    Subparsers: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]


def register(subparsers: Subparsers) -> None:
    """Add the command `bench` with its benchmarks."""
    parser = subparsers.add_parser(
        "bench",
        help="measure a running gateway, or the checks",
        description="Measure a running gateway, or the checks.",
    )
    benchmarks = parser.add_subparsers(title="benchmarks", metavar="NAME", required=True)
    bench_solve.register(benchmarks)
    bench_tasks.register(benchmarks)
    bench_verifiers.register(benchmarks)
    bench_record.register(benchmarks)
