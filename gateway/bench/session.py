"""What every benchmark does around its arithmetic: drive with a progress bar, show, write, say how it ended."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from gateway.bench.drive import Job, Trial, drive
from gateway.bench.report import Report
from gateway.client import connect_async, one_line_errors
from router.cli import EXIT_FAILED, EXIT_INTERRUPTED

DEFAULT_SYSTEM = "Solve the problem. End with the final answer in \\boxed{}."  # before the question of a `question` row
_PIPE_WIDTH = 200  # columns of a table that no terminal shows


def measure(url: str, model: str, jobs: Sequence[Job], concurrency: int) -> tuple[list[Trial], bool]:
    """All trials, or those done when Ctrl-C came, and whether it came. Raises `ThinkTwiceError` without a gateway."""
    trials: list[Trial] = []
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console, disable=not console.is_terminal)
    task = progress.add_task("measuring", total=len(jobs))

    def done(trial: Trial) -> None:
        trials.append(trial)
        progress.advance(task)

    async def work() -> None:
        async with connect_async(url) as client:
            with one_line_errors(url):
                await client.models.list()  # a gateway that is down is one line, not a table of errors
            await drive(client, jobs, model, concurrency, done)

    try:
        with progress:
            asyncio.run(work())
    except KeyboardInterrupt:
        return trials, True
    return trials, False


def served_by(trials: Sequence[Trial]) -> str:
    """The policies that answered."""
    return ", ".join(sorted({str(trial.reply.verification["policy"]) for trial in trials if trial.reply})) or "nothing"


def publish(report: Report, out: Path | None, as_json: bool) -> None:
    """Print the report and write it to `out`. Raises `ConfigError` when that cannot be written."""
    if as_json:
        print(json.dumps(report.json()))
    else:
        _print(report)
    if out is not None:
        for path in report.write(out):
            print(f"wrote {path}", file=sys.stderr)


def exit_code(trials: Sequence[Trial], interrupted: bool) -> int:
    """How the benchmark ended, for the shell."""
    if interrupted:
        return EXIT_INTERRUPTED
    return 0 if any(trial.reply for trial in trials) else EXIT_FAILED


def _print(report: Report) -> None:
    console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH)
    for table in report.tables:
        shown = Table(*table.columns, title=table.title, title_justify="left")
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)
    for note in report.notes:
        console.print(note, markup=False, highlight=False)
