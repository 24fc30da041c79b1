"""Data rows: problems with the check that tells whether they were solved."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from router.errors import ConfigError
from router.verify.reference import reference_check

DEFAULT_SYSTEM = "Solve the problem. End with the final answer in \\boxed{}."


@dataclass(frozen=True, slots=True)
class Row:
    """One problem, ready to send."""

    line: int  # in the data file, from 1
    messages: tuple[Mapping[str, Any], ...]
    verification: Mapping[str, Any]


def load_rows(path: Path, limit: int | None = None, system: str = DEFAULT_SYSTEM) -> tuple[Row, ...]:
    """The first `limit` rows of a JSON Lines file, blank lines apart.

    `system` is put before the question of `question` rows; rows with `messages` are sent as they are. Raises
    `ConfigError` with file, line and cure for a row that cannot be used and for a file without rows.
    """
    try:
        with path.open(encoding="utf-8") as file:
            rows = tuple(islice(_parse(path, file, system), limit))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read data file {path}: {error}") from error
    if not rows:
        raise ConfigError(f"data file {path} has no rows: give JSON Lines of messages and verification")
    return rows


def parse_row(text: str, line: int, system: str = DEFAULT_SYSTEM) -> Row:
    """One line of the file. Raises `ValueError` with the cure."""
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg}): write one JSON object on each line") from error
    if not isinstance(data, dict):
        raise ValueError("not an object: write one JSON object on each line")
    if "messages" in data:
        return _message_row(data, line)
    if "question" in data:
        return _question_row(data, line, system)
    raise ValueError("neither `messages` with `verification` nor `question` with `answer`: add one of the two")


def _parse(path: Path, lines: Iterator[str], system: str) -> Iterator[Row]:
    for number, text in enumerate(lines, start=1):
        if text.strip():
            try:
                yield parse_row(text, number, system)
            except ValueError as error:
                raise ConfigError(f"{path}:{number}: {error}") from error


def _message_row(data: Mapping[str, Any], line: int) -> Row:
    messages, verification = data["messages"], data.get("verification")
    if not isinstance(messages, list) or not messages or not all(isinstance(each, dict) for each in messages):
        raise ValueError("`messages` is not a list of messages: write them as in a chat request")
    if not isinstance(verification, dict) or not (verification.get("checks") or verification.get("profile")):
        raise ValueError("`verification` names no checks and no profile, so nothing could be solved: add one")
    return Row(line, tuple(messages), verification)


def _question_row(data: Mapping[str, Any], line: int, system: str) -> Row:
    question = data["question"]
    if not isinstance(question, str) or not question.strip():
        raise ValueError("`question` is not text: write the problem")
    if "answer" not in data:
        raise ValueError("`question` without `answer`: add the expected final answer")
    instruction = ({"role": "system", "content": system},) if system else ()
    messages = (*instruction, {"role": "user", "content": question})
    return Row(line, messages, {"checks": [reference_check(data["answer"])]})
