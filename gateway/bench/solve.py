"""The benchmark `solve`: always-1, always-5 and the router on the same rows, what each solves and what it costs."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import sys
from typing import Any

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from gateway.bench.drive import POLICIES, Plan, Trial, drive
from gateway.bench.report import Result, environment
from gateway.bench.rows import DEFAULT_SYSTEM, load_rows
from gateway.bench.summary import differences, summarise
from gateway.client import connect_async, one_line_errors
from router.cli import EXIT_FAILED, EXIT_INTERRUPTED
from router.errors import ConfigError

_PIPE_WIDTH = 200  # columns of a table that no terminal shows


def run(args: argparse.Namespace) -> int:
    """Measure, print, and return the exit code. Raises `ConfigError`, and `ThinkTwiceError` without a gateway."""
    system = DEFAULT_SYSTEM if (given := _system(args)) is None else given
    plan = Plan(
        rows=load_rows(args.data, args.limit, system),
        policies=_policies(args.policies, list(POLICIES)),
        model=args.model,
        max_tokens=args.max_tokens,
        seed=args.seed,
        concurrency=args.concurrency,
    )
    trials, interrupted = _measure(args.url, plan)
    result = _result(args, plan, trials, {"system": system, "interrupted": interrupted})
    _show(result, args.json)
    if args.out is not None:
        for path in result.write(args.out):
            print(f"wrote {path}", file=sys.stderr)
    if interrupted:
        return EXIT_INTERRUPTED
    return 0 if any(trial.reply for trial in trials) else EXIT_FAILED


def _measure(url: str, plan: Plan) -> tuple[list[Trial], bool]:
    """All trials, or those done when Ctrl-C came."""
    trials: list[Trial] = []
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console, disable=not console.is_terminal)
    task = progress.add_task("solving", total=len(plan.jobs()))

    def done(trial: Trial) -> None:
        trials.append(trial)
        progress.advance(task)

    async def work() -> None:
        async with connect_async(url) as client:
            with one_line_errors(url):
                await client.models.list()  # a gateway that is down is one line, not a table of errors
            await drive(client, plan, done)

    try:
        with progress:
            asyncio.run(work())
    except KeyboardInterrupt:
        return trials, True
    return trials, False


def _result(args: argparse.Namespace, plan: Plan, trials: list[Trial], context: dict[str, Any]) -> Result:
    served = sorted({str(trial.reply.verification["policy"]) for trial in trials if trial.reply})
    facts = environment() | {
        "data": str(args.data),
        "data_sha256": hashlib.sha256(args.data.read_bytes()).hexdigest(),
        "rows": len(plan.rows),
        "model": plan.model,
        "served_by": ", ".join(served) or "nothing",
        "concurrency": plan.concurrency,
        "seed": plan.seed,
        "max_tokens": plan.max_tokens,
        **context,
    }
    summaries = [summarise(trials, policy, plan.seed) for policy in plan.policies]
    return Result(facts, summaries, differences(trials, plan.policies, plan.seed))


def _show(result: Result, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result.json()))
        return
    console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH)
    for table in result.tables():
        shown = Table(*table.columns, title=table.title, title_justify="left")
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)
    console.print("Intervals are 95 %.")


def _system(args: argparse.Namespace) -> str | None:
    if args.system_file is None:
        system: str | None = args.system
        return system
    try:
        text: str = args.system_file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read --system-file {args.system_file}: {error}") from error
    return text.strip()


def _policies(text: str, known: list[str]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ConfigError(f"--policies {text!r} is not a list of policies: choose from {', '.join(known)}")
    return names
