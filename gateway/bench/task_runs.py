"""The benchmark `tasks`: pass@1 and pass@5 of generated tasks, with and without worked examples."""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gateway.bench.drive import Job, Trial
from gateway.bench.report import Report, Table, environment, error_counts, number
from gateway.bench.session import DEFAULT_SYSTEM, exit_code, measure, publish, served_by
from gateway.bench.task_summary import BAND, Arm, TaskSummary, summarise_task
from gateway.bench.tasks.catalogue import TASKS, generate, task_named, write_rows
from gateway.bench.tasks.item import DEFAULT_MAX_TOKENS
from router.errors import ConfigError
from router.questions import load_questions

# The policy's own distribution, whatever defaults the engine takes from the model.
_SAMPLING: Mapping[str, float] = {"temperature": 1.0, "top_p": 1.0, "top_k": -1, "min_p": 0.0}
_ONE_SAMPLE: Mapping[str, int] = {"min": 1, "max": 1}


def run(args: argparse.Namespace) -> int:
    """Measure or write, and return the exit code. Raises `ConfigError`, and `ThinkTwiceError` without a gateway."""
    arms = [*_generated(args), *_from_files(args)]
    if args.write is not None:
        return _write(arms, args.write)
    trials, interrupted = measure(args.url, args.model, plan(arms, args.samples, args.seed), args.concurrency)
    summaries = [summarise_task(trials, arm, args.seed) for arm in arms]
    context = _context(args, trials) | {"interrupted": interrupted}
    results = {"tasks": [asdict(each) for each in summaries], "in_band": _in_band(summaries)}
    notes = (
        f"Tasks with pass@1 in {_percent(BAND)} %: {', '.join(_in_band(summaries)) or 'none'}.",
        "Intervals are 95 %, over rows.",
    )
    publish(Report("tasks", context, results, [_table(summaries)], notes), args.out, args.json)
    return exit_code(trials, interrupted)


def plan(arms: Sequence[Arm], samples: int, seed: int) -> list[Job]:
    """Every row `samples` times in a row, each a request of its own with a seed of its own."""
    return [
        Job(row, arm.name, _ONE_SAMPLE, {**_SAMPLING, "max_tokens": arm.max_tokens, "seed": sample_seed})
        for arm in arms
        for row in arm.rows
        for sample_seed in random.Random(f"{seed}/{arm.name}/{row.line}").sample(range(2**31), samples)
    ]


def _generated(args: argparse.Namespace) -> list[Arm]:
    """All tasks, unless tasks or files are named."""
    names = dict.fromkeys(args.task or ([] if args.data else TASKS))
    return [
        Arm(name, shots, generate(task, args.rows, shots, args.seed), args.max_tokens or task.max_tokens)
        for name in names
        for task in (task_named(name),)
        for shots in dict.fromkeys(args.shots)
    ]


def _from_files(args: argparse.Namespace) -> list[Arm]:
    """Raises `ConfigError` for files of one name: their rows would be taken for one task."""
    paths: Sequence[Path] = args.data
    doubled = [name for name, count in Counter(path.stem for path in paths).items() if count > 1]
    if doubled:
        raise ConfigError(f"--data names several files {doubled[0]!r}: a task takes its file's name, rename one")
    return [
        Arm(path.stem, None, load_questions(path, args.rows, DEFAULT_SYSTEM), args.max_tokens or DEFAULT_MAX_TOKENS)
        for path in paths
    ]


def _write(arms: Sequence[Arm], path: Path) -> int:
    if len(arms) != 1:
        raise ConfigError(f"--write takes the rows of one task, not of {len(arms)}: name one --task and one --shots")
    write_rows(arms[0].rows, path)
    print(f"wrote {len(arms[0].rows)} rows of {arms[0].name} to {path}", file=sys.stderr)
    return 0


def _context(args: argparse.Namespace, trials: Sequence[Trial]) -> dict[str, Any]:
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in args.data}
    return environment() | {
        **({"data_sha256": digests} if digests else {}),
        "model": args.model,
        "served_by": served_by(trials),
        "rows": args.rows,
        "samples": args.samples,
        "sampling": dict(_SAMPLING),
        "concurrency": args.concurrency,
        "seed": args.seed,
    }


def _in_band(summaries: Sequence[TaskSummary]) -> list[str]:
    return [Arm(each.task, each.shots, (), 0).name for each in summaries if each.in_band]


def _table(summaries: Sequence[TaskSummary]) -> Table:
    columns = ["task", "shots", "rows", "pass@1 %", "pass@5 %", "groups with spread %", "one constant %"]
    columns += ["completion tokens", "truncated %", "errors"]
    rows = [
        [
            each.task,
            "-" if each.shots is None else str(each.shots),
            str(each.rows),
            number(each.pass_1, ".1f", 100),
            number(each.pass_5, ".1f", 100),
            number(each.spread, ".0f", 100),
            "-" if each.constant is None else f"{each.constant * 100:.0f}",
            number(each.completion_tokens, ".1f"),
            number(each.truncated, ".0f", 100),
            error_counts(each.errors),
        ]
        for each in summaries
    ]
    return Table("Tasks", columns, rows)


def _percent(bounds: Sequence[float]) -> str:
    return " to ".join(f"{bound * 100:.0f}" for bound in bounds)
