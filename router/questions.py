"""Question rows: messages with the verification that tells whether an answer solved them (DESIGN section 3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from router.errors import ConfigError, InvalidRequest
from router.quantity import parse_quantity
from router.strict_json import NotJson, loads
from router.verify.limits import MAX_TIMEOUT_S
from router.verify.merge import merge


@dataclass(frozen=True, slots=True)
class Question:
    """One question, ready to send."""

    line: int  # in its file, from 1
    messages: tuple[Mapping[str, Any], ...]
    verification: Mapping[str, Any]
    guard: str | None = None  # the guard set it belongs to: it is not part of the test


def load_questions(path: Path, limit: int | None = None, system: str | None = None) -> tuple[Question, ...]:
    """The first `limit` questions of a JSON Lines file, blank lines apart.

    A row is `messages` with `verification`, sent as it is, or `question` with `answer`: one user message, after the
    `system` message if one is given. `guard` names the guard set of a row. Raises `ConfigError` with file, line and
    cure for a row that cannot be used, and for a file that cannot be read or has no rows.
    """
    try:
        with path.open(encoding="utf-8") as file:
            questions = tuple(islice(_parsed(path, file, system), limit))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}: give JSON Lines in UTF-8") from error
    if not questions:
        raise ConfigError(f"{path} has no rows: write one JSON object a line, `question` with `answer`")
    return questions


def parse_question(text: str, line: int, system: str | None = None) -> Question:
    """One line of the file. Raises `ValueError` with the cure."""
    row = loads(text)
    if not isinstance(row, dict):
        raise ValueError("not a JSON object: write `question` with `answer`, or `messages` with `verification`")
    if "messages" in row:
        messages, verification = _messages(row["messages"]), row.get("verification")
    elif "question" in row:
        messages, verification = _asked(row["question"], system), {"checks": [reference_check(row.get("answer"))]}
    else:
        raise ValueError("neither `question` nor `messages`: add `question` with `answer`, or `messages`")
    return Question(line, messages, _verification(verification), _guard(row.get("guard")))


def reference_check(answer: object) -> dict[str, Any]:
    """The check of an `answer`: `numeric` for a plain number without a unit, else `math`. Raises `ValueError`."""
    if isinstance(answer, bool) or not isinstance(answer, str | int | float) or not str(answer).strip():
        raise ValueError("`answer` is no number or text: write the expected final answer")
    quantity = parse_quantity(str(answer))
    kind = "numeric" if quantity is not None and not quantity.unit else "math"
    return {"type": kind, "reference": str(answer).strip()}


def _parsed(path: Path, lines: Iterator[str], system: str | None) -> Iterator[Question]:
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            yield parse_question(text, number, system)
        except NotJson as error:
            raise ConfigError(f"{path}:{number}: {error}: write one JSON object a line") from error
        except ValueError as error:
            raise ConfigError(f"{path}:{number}: {error}") from error


def _messages(given: object) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(given, list) or not given or not all(isinstance(each, dict) for each in given):
        raise ValueError("`messages` is not a list of messages: write them as in a chat request")
    if not all(isinstance(each.get("role"), str) for each in given):
        raise ValueError("a message has no `role`: write system, user or assistant")
    return tuple(given)


def _asked(question: object, system: str | None) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(question, str) or not question.strip():
        raise ValueError("`question` is not text: write the question")
    user = {"role": "user", "content": question}
    return ({"role": "system", "content": system}, user) if system else (user,)


def _guard(name: object) -> str | None:
    if name is not None and (not isinstance(name, str) or not name.strip()):
        raise ValueError("`guard` is no name: write one such as general, or leave it out")
    return name


def _verification(given: object) -> Mapping[str, Any]:
    """What the gateway will be asked to verify, judged here by its own rules. Profiles only the gateway knows."""
    if not isinstance(given, dict):
        raise ValueError("`messages` without a `verification` object: add one with `checks` or a `profile`")
    own = {name: value for name, value in given.items() if name != "profile"}
    try:
        spec = merge(own, None, {}, None, MAX_TIMEOUT_S)
    except InvalidRequest as error:
        raise ValueError(f"{error.param}: {error}") from error
    if not spec.has_oracle and not given.get("profile"):
        raise ValueError("no decisive check, so nothing could be solved: add one such as `math` or `exact`")
    return given
