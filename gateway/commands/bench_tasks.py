"""`thinktwice bench tasks`: its command line. The measurement is `gateway.bench.task_runs`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from gateway.commands.bench_options import EXIT_CODES, add_common, positive

if TYPE_CHECKING:
    Subparsers: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]


def register(subparsers: Subparsers) -> None:
    """Add the benchmark `tasks`."""
    parser = subparsers.add_parser(
        "tasks",
        help="pass@1 and pass@5 of generated tasks, to choose one worth training on",
        description="Send generated problems to a running gateway, each several times as a request of one sample, and "
        "tell how often the model is right (docs/bench.md lists the tasks).",
        epilog=EXIT_CODES,
    )
    parser.add_argument("--task", nargs="+", metavar="NAME", help="tasks to measure (default: all, without --data)")
    parser.add_argument(
        "--data", nargs="+", type=Path, default=[], metavar="FILE", help="further tasks: files of rows, as they are"
    )
    parser.add_argument("--rows", type=positive, default=40, help="rows of each task (default: %(default)s)")
    parser.add_argument(
        "--shots", nargs="+", type=int, choices=range(5), default=[0, 4], help="worked examples (default: 0 4)"
    )
    parser.add_argument("--samples", type=positive, default=5, help="requests for each row (default: %(default)s)")
    parser.add_argument("--max-tokens", type=positive, help="longest completion (default: the task's, 64 for files)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="only write the rows of one task, as JSON Lines")
    add_common(parser, seed="problems, samples and intervals")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure or write, and return the exit code."""
    from gateway.bench import task_runs  # noqa: PLC0415  # the SDK takes over a second to import

    return task_runs.run(args)
