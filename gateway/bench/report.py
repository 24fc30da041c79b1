"""A result as tables for people and as JSON for machines. Every number stands beside its interval."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from router.errors import ConfigError
from router.stats import Estimate, Rate

_INTERVALS = "Intervals are 95 %."


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
class Report:
    """A finished or interrupted benchmark and where it ran."""

    benchmark: str
    context: Mapping[str, Any]
    results: Mapping[str, Any]  # of the JSON object, beside the context
    tables: Sequence[Table]
    notes: Sequence[str] = (_INTERVALS,)
    subject: str = ""  # what was measured, for the name of its files

    def json(self) -> dict[str, Any]:
        """One JSON object."""
        return {**self.context, **self.results}

    def markdown(self) -> str:
        """The tables under the facts that let someone run it again."""
        facts = "\n".join(f"- {name.replace('_', ' ')}: {_fact(value)}" for name, value in self.context.items())
        tables = (table.markdown() for table in self.tables)
        return "\n\n".join([f"# bench {self.benchmark}", facts, *tables, *self.notes]) + "\n"

    def write(self, directory: Path) -> tuple[Path, Path]:
        """Write the JSON and the Markdown beside it, never over an earlier result.

        Raises `ConfigError` when the directory cannot be written.
        """
        date = self.context["date"].replace(":", "").replace("-", "")
        stem = "-".join(filter(None, (self.benchmark, self.subject, date)))
        try:
            directory.mkdir(parents=True, exist_ok=True)
            path = next(path for path in _names(directory, stem) if not path.exists())
            paths = path, path.with_suffix(".md")
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


def error_counts(errors: Mapping[str, int]) -> str:
    """`2 x timeout, 1 x 503`, or `none`."""
    return ", ".join(f"{count} x {code}" for code, count in sorted(errors.items())) or "none"


def _names(directory: Path, stem: str) -> Iterator[Path]:
    """Names for the JSON file: runs side by side may end in the same second."""
    yield directory / f"{stem}.json"
    yield from (directory / f"{stem}-{number}.json" for number in count(2))


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
