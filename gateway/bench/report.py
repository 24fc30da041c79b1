"""A result as tables for people and as JSON for machines. Every number stands beside its interval."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from gateway.bench.summary import Difference, PolicySummary
from router.enums import Status
from router.errors import ConfigError
from router.stats import Estimate, Rate


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table of text cells."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """As Markdown."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "\n".join([f"**{self.title}**", "", *("| " + " | ".join(line) + " |" for line in lines)])


@dataclass(frozen=True, slots=True)
class Result:
    """A finished or interrupted benchmark and where it ran."""

    context: Mapping[str, Any]
    policies: Sequence[PolicySummary]
    differences: Sequence[Difference]

    def json(self) -> dict[str, Any]:
        """One JSON object."""
        return {
            **self.context,
            "policies": [asdict(each) for each in self.policies],
            "differences": [asdict(each) for each in self.differences],
        }

    def tables(self) -> list[Table]:
        """What is printed."""
        tables = [_policy_table(self.policies), _status_table(self.policies)]
        return [*tables, _difference_table(self.differences)] if self.differences else tables

    def markdown(self) -> str:
        """The tables under the facts that let someone run it again."""
        facts = [f"- {name.replace('_', ' ')}: {_fact(value)}" for name, value in self.context.items()]
        body = "\n\n".join(table.markdown() for table in self.tables())
        return "\n".join(["# bench solve", "", *facts, "", body, "", "Intervals are 95 %.", ""])

    def write(self, directory: Path) -> tuple[Path, Path]:
        """Write the JSON and the Markdown beside it. Raises `ConfigError` when the directory cannot be written."""
        stem = f"solve-{Path(self.context['data']).stem}-{self.context['date'].replace(':', '').replace('-', '')}"
        paths = directory / f"{stem}.json", directory / f"{stem}.md"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            paths[0].write_bytes(msgspec.json.format(msgspec.json.encode(self.json()), indent=1) + b"\n")
            paths[1].write_text(self.markdown(), encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"cannot write the result to {directory}: {error}; give another --out") from error
        return paths


def environment() -> dict[str, Any]:
    """Command, date, versions and machine."""
    return {
        "command": " ".join(["thinktwice", *sys.argv[1:]]),
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "versions": {"thinktwice": version("thinktwice"), "python": platform.python_version()},
        "machine": f"{_cpu()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
    }


def number(estimate: Estimate | Rate, form: str = ".3g", scale: float = 1.0) -> str:
    """`value [low, high]`; a bound that the data leaves open is `?`, an unknown value `-`."""
    if estimate.value is None:
        return "-"
    low, high = ("?" if bound is None else format(bound * scale, form) for bound in (estimate.low, estimate.high))
    return f"{estimate.value * scale:{form}} [{low}, {high}]"


def _policy_table(policies: Sequence[PolicySummary]) -> Table:
    columns = ["policy", "n", "solve rate %", "tokens/request", "tokens/solved", "cost/solved $"]
    columns += ["samples", "wall p50 s", "wall total s"]
    rows = [
        [
            each.policy,
            str(each.n),
            number(each.solve_rate, ".1f", 100),
            number(each.tokens_per_request, ".0f"),
            number(each.tokens_per_solved, ".0f"),
            number(each.cost_per_solved_usd),
            number(each.samples_mean, ".2f"),
            number(each.wall_s_p50, ".2f"),
            f"{each.wall_s_total:.1f}",
        ]
        for each in policies
    ]
    return Table("Policies", columns, rows)


def _status_table(policies: Sequence[PolicySummary]) -> Table:
    rows = []
    for each in policies:
        counts = [f"{rate.successes} ({number(rate, '.0f', 100)} %)" for rate in each.statuses.values()]
        errors = ", ".join(f"{count} x {code}" for code, count in sorted(each.errors.items())) or "none"
        rows.append([each.policy, *counts, errors])
    return Table("Answers by status", ["policy", *Status, "errors"], rows)


def _difference_table(differences: Sequence[Difference]) -> Table:
    rows = [
        [
            f"{each.policy} - {each.baseline}",
            str(each.solve_rate.n),
            number(each.solve_rate, "+.1f", 100),
            number(each.tokens_per_request, "+.0f"),
            number(each.cost_per_request_usd, "+.3g"),
            number(each.wall_s, "+.2f"),
        ]
        for each in differences
    ]
    columns = ["difference", "pairs", "solve rate, points", "tokens/request", "cost/request $", "wall s"]
    return Table("Paired differences", columns, rows)


def _fact(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {each}" for name, each in value.items())
    return f"`{value}`" if isinstance(value, str) else str(value)


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
