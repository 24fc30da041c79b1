"""The benchmark `verifiers`: how often each check is wrong, on texts whose verdict is known."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import track

from gateway.bench.bare_math import BARE, bare_math_verify
from gateway.bench.judging import REFUSED, Found, judged
from gateway.bench.report import Report, Table, environment
from gateway.bench.seconds import measured_seconds, seconds_of, seconds_table
from gateway.bench.session import publish
from gateway.bench.truth import GAMING, Fact, Part, load_truth
from router.enums import Outcome
from router.errors import ConfigError
from router.stats import Rate, upper_bound, wilson
from router.verify.measured import MeasuredRate, MeasuredSecond
from router.verify.registry import CHECK_TYPES

_COLUMNS = ("check", "part", "negatives", "false accepts", "positives", "false rejects", "undecided", "refused")


@dataclass(frozen=True, slots=True)
class Errors:
    """How often one check is wrong on one part. `undecided` are facts of either kind that it does not judge."""

    check: str
    part: str
    version: str
    false_accepts: Rate
    false_accepts_at_most: float | None  # upper 95 % bound, one-sided
    false_rejects: Rate
    false_rejects_at_most: float | None
    undecided: int
    refused: int


def run(args: argparse.Namespace) -> int:
    """Measure, print, write. Exit 1 when a gaming text was accepted. Raises `ConfigError`."""
    facts = load_truth(args.truth)
    found = asyncio.run(judged(facts, args.workers))
    console = Console(stderr=True)
    maths = [fact for fact in facts if fact.table == "math" and fact.expect != REFUSED and fact.spec is not None]
    asked = track(maths, "bare math-verify", console=console, disable=not console.is_terminal)
    bare = [Found(fact, bare_math_verify(fact)) for fact in asked]
    errors = [*errors_of(found), *errors_of(bare, BARE)]
    gamed, seconds = accepted_gaming(found), seconds_of(found)
    context = environment() | {"truth": str(args.truth), "facts": len(facts), "workers": args.workers}
    results = {
        "checks": msgspec.to_builtins(errors),
        "second_verifiers": msgspec.to_builtins(seconds),
        "gaming": {"texts": sum(fact.table == GAMING for fact in facts), "accepted": len(gamed)},
        "by_source": _by_source(found),
    }
    publish(
        Report("verifiers", context, results, [*_tables(errors, found), seconds_table(seconds)], _notes(results)),
        args.out,
        args.json,
    )
    if args.record is not None:
        _record(errors, measured_seconds(found), args.record)
    return 1 if gamed else 0


def errors_of(found: Iterable[Found], name: str | None = None) -> list[Errors]:
    """The error rates by table (or of them all as `name`) and part; gaming texts and deliberate refusals apart."""
    groups: dict[tuple[str, Part], list[Found]] = {}
    for each in found:
        if each.fact.table != GAMING and each.fact.expect != REFUSED:
            groups.setdefault((name or each.fact.table, each.fact.part), []).append(each)
    return [_errors(check, part, groups[check, part]) for check, part in sorted(groups)]


def accepted_gaming(found: Iterable[Found]) -> list[Fact]:
    """The gaming texts that a check accepted: there must be none."""
    return [each.fact for each in found if each.fact.table == GAMING and each.outcome == Outcome.PASS]


def _errors(check: str, part: Part, found: Sequence[Found]) -> Errors:
    admitted = [each for each in found if each.outcome != REFUSED]
    negatives = [each.outcome for each in admitted if each.fact.expect == "fail"]
    positives = [each.outcome for each in admitted if each.fact.expect == "pass"]
    accepts, rejects = negatives.count(Outcome.PASS), positives.count(Outcome.FAIL)
    return Errors(
        check=check,
        part=part,
        version=CHECK_TYPES[check].version if check in CHECK_TYPES else "",
        false_accepts=wilson(accepts, len(negatives)),
        false_accepts_at_most=upper_bound(accepts, len(negatives)),
        false_rejects=wilson(rejects, len(positives)),
        false_rejects_at_most=upper_bound(rejects, len(positives)),
        undecided=sum(each.outcome not in (Outcome.PASS, Outcome.FAIL) for each in admitted),
        refused=len(found) - len(admitted),
    )


def _tables(errors: Sequence[Errors], found: Sequence[Found]) -> list[Table]:
    rows = [
        (
            each.check,
            each.part,
            str(each.false_accepts.n),
            _rate(each.false_accepts, each.false_accepts_at_most),
            str(each.false_rejects.n),
            _rate(each.false_rejects, each.false_rejects_at_most),
            str(each.undecided),
            str(each.refused),
        )
        for each in errors
    ]
    sources = [
        (table, source, expect, ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items())))
        for (table, source, expect), outcomes in sorted(_outcomes(found).items())
    ]
    return [
        Table("Errors of the checks", _COLUMNS, rows),
        Table("Verdicts by source, both parts", ("check", "source", "should be", "verdicts"), sources),
    ]


def _rate(rate: Rate, at_most: float | None) -> str:
    if rate.value is None or at_most is None:
        return "-"
    return f"{rate.successes}: {rate.value:.2%} (at most {at_most:.2%})"


def _notes(results: dict[str, Any]) -> tuple[str, ...]:
    gaming = results["gaming"]
    return (
        f"Gaming texts: {gaming['texts']}, accepted: {gaming['accepted']}.",
        "`at most` is the upper end of the one-sided 95 % interval (Clopper and Pearson). Undecided facts (`error`, "
        "`timeout`, `skipped`) are neither accepted nor rejected; refused ones have a reference that is a 400. Of "
        "`python_outputs` a fact is two programs: together in one vote is accepted, apart is rejected. Only the "
        "development part may be looked into; the reported part is counted and nothing more.",
    )


def _outcomes(found: Sequence[Found]) -> dict[tuple[str, str, str], Counter[str]]:
    """Verdicts by table, source and what they should be; the many files of a test suite are one source."""
    counts: dict[tuple[str, str, str], Counter[str]] = {}
    for each in found:
        key = (each.fact.table, each.fact.source.partition("/")[0], each.fact.expect)
        counts.setdefault(key, Counter())[each.outcome] += 1
    return counts


def _by_source(found: Sequence[Found]) -> list[dict[str, Any]]:
    return [
        {"check": table, "source": source, "expect": expect, "outcomes": dict(sorted(counts.items()))}
        for (table, source, expect), counts in sorted(_outcomes(found).items())
    ]


def _record(errors: Sequence[Errors], seconds: Mapping[str, MeasuredSecond], path: Path) -> None:
    """Write the rates of the reported part, and the second verifiers', where `router.verify.measured` reads them."""
    rates = {
        each.check: MeasuredRate(
            version=each.version,
            negatives=each.false_accepts.n,
            false_accepts=each.false_accepts.successes,
            positives=each.false_rejects.n,
            false_rejects=each.false_rejects.successes,
            second=seconds.get(each.check),
        )
        for each in errors
        if each.part == Part.REPORTED and each.check in CHECK_TYPES
    }
    try:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(rates), indent=1) + b"\n")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error}; give another --record") from error
    print(f"wrote {path}", file=sys.stderr)
