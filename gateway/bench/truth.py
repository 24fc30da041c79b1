"""The truth tables: texts with the verdict that each check should give them, from a folder of JSON Lines.

`NAME.jsonl` belongs to the check NAME: the fields of the check beside `text`, `expect` (`pass`, `fail`, or `refused`:
what the check refuses on purpose although its source calls it equal) and `source`. A row of `json_schema.jsonl` has
`values`, pairs of a JSON value and whether it is valid; one
of the checks that run Python has `programs`, pairs of a source and its `expect`. A program of `python_outputs.jsonl` is
to vote together with the one `beside` it (`pass`) or apart from it (`fail`).
`gaming.jsonl` holds texts that no check may accept.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from pathlib import Path
from typing import Any

from router.domain import CheckSpec
from router.errors import ConfigError, InvalidRequest
from router.verify.limits import MAX_TIMEOUT_S
from router.verify.spec import parse_checks

GAMING = "gaming"
_SALT = b"truth tables 1"  # of the split; never change it: who has seen the reported part has tuned to it
_REPORTED_OF_256 = 77  # 30 %
_ABOUT_THE_ROW = frozenset({"text", "expect", "source", "values", "programs", "beside", "why"})


class Part(StrEnum):
    """Which part of the tables a row is in: the checks may be improved on the first, never on the second."""

    DEVELOPMENT = "development"
    REPORTED = "reported"


@dataclass(frozen=True, slots=True)
class Fact:
    """One text and its verdict. `spec` is None when the check itself is refused at admission."""

    table: str
    part: Part
    spec: CheckSpec | None
    text: str
    expect: str
    source: str
    beside: str | None = None  # a second text: do both stand for the same?


def load_truth(folder: Path) -> list[Fact]:
    """Every fact of a folder. Raises `ConfigError` naming the file and the line that cannot be used."""
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        raise ConfigError(f"{folder} holds no truth tables: run from a checkout, or give --truth DIR")
    return [fact for file in files for fact in _facts(file)]


def _facts(file: Path) -> Iterator[Fact]:
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            yield from _of_row(file.stem, json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{file}, line {number}, is no fact: {error!r}") from error


def _of_row(table: str, row: Mapping[str, Any]) -> Iterator[Fact]:
    if table == GAMING:
        yield Fact(table, Part.REPORTED, _admitted(row["check"]), row["text"], "fail", "gaming")
        return
    fields = {name: value for name, value in row.items() if name not in _ABOUT_THE_ROW}
    spec, part = _admitted({"type": table, **fields}), _part(fields or row["text"])
    for value, valid in row.get("values", ()):
        yield Fact(table, part, spec, json.dumps(value), "pass" if valid else "fail", row["source"])
    for program, expect in row.get("programs", ()):
        yield Fact(table, part, spec, program, expect, row["source"], row.get("beside"))
    if "text" in row:
        yield Fact(table, part, spec, row["text"], row["expect"], row["source"])


def _admitted(check: Mapping[str, Any]) -> CheckSpec | None:
    try:
        return parse_checks([check], where="check", default_timeout_s=MAX_TIMEOUT_S)[0]
    except InvalidRequest:
        return None


def _part(about: Any) -> Part:
    """By a salted hash of what the check is given: all texts for one reference are in the same part."""
    digest = blake2b(json.dumps(about).encode(), key=_SALT, digest_size=8).digest()
    return Part.REPORTED if digest[0] < _REPORTED_OF_256 else Part.DEVELOPMENT
