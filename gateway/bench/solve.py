"""The benchmark `solve`: always-1, always-5 and the router on the same rows, what each solves and what it costs."""

from __future__ import annotations

import argparse
import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from gateway.bench.drive import Job, Trial
from gateway.bench.report import Report, environment
from gateway.bench.session import DEFAULT_SYSTEM, exit_code, measure, publish, served_by
from gateway.bench.solve_tables import tables
from gateway.bench.summary import differences, summarise
from router.domain import MAX_SAMPLES
from router.errors import ConfigError
from router.questions import Question, load_questions

# Sample bounds that a policy forces; None leaves the row's verification, and the choice to the router.
POLICIES: Mapping[str, Mapping[str, int] | None] = {
    "always-1": {"min": 1, "max": 1},
    "always-5": {"min": MAX_SAMPLES, "max": MAX_SAMPLES},
    "auto": None,
}


def run(args: argparse.Namespace) -> int:
    """Measure, print, and return the exit code. Raises `ConfigError`, and `ThinkTwiceError` without a gateway."""
    system = DEFAULT_SYSTEM if (given := _system(args)) is None else given
    rows = load_questions(args.data, args.limit, system)
    policies = _policies(args.policies)
    jobs = plan(rows, policies, args.seed, args.max_tokens)
    trials, interrupted = measure(args.url, args.model, jobs, args.concurrency)
    context = _context(args, trials) | {"rows": len(rows), "system": system, "interrupted": interrupted}
    publish(_report(args, trials, policies, context), args.out, args.json)
    return exit_code(trials, interrupted)


def plan(rows: Sequence[Question], policies: Sequence[str], seed: int, max_tokens: int | None) -> list[Job]:
    """Row after row, the policies of each in a random order of their own, in which drift of the machine cancels."""
    rng = random.Random(seed)
    sampling = {} if max_tokens is None else {"max_tokens": max_tokens}
    return [
        Job(row, policy, POLICIES[policy], sampling) for row in rows for policy in rng.sample(policies, k=len(policies))
    ]


def _context(args: argparse.Namespace, trials: Sequence[Trial]) -> dict[str, Any]:
    return environment() | {
        "data": str(args.data),
        "data_sha256": hashlib.sha256(args.data.read_bytes()).hexdigest(),
        "model": args.model,
        "served_by": served_by(trials),
        "concurrency": args.concurrency,
        "seed": args.seed,
        "max_tokens": args.max_tokens,
    }


def _report(
    args: argparse.Namespace, trials: Sequence[Trial], policies: Sequence[str], context: Mapping[str, Any]
) -> Report:
    summaries = [summarise(trials, policy, args.seed) for policy in policies]
    compared = differences(trials, policies, args.seed)
    results = {
        "policies": [asdict(each) for each in summaries],
        "differences": [asdict(each) for each in compared],
    }
    return Report("solve", context, results, tables(summaries, compared), subject=args.data.stem)


def _system(args: argparse.Namespace) -> str | None:
    if args.system_file is None:
        system: str | None = args.system
        return system
    try:
        text: str = args.system_file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read --system-file {args.system_file}: {error}") from error
    return text.strip()


def _policies(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in POLICIES]
    if unknown or not names:
        raise ConfigError(f"--policies {text!r} is not a list of policies: choose from {', '.join(POLICIES)}")
    return names
