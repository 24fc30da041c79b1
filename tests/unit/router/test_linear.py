"""What reads texts of clients and models costs time in proportion to them: a pattern holds the interpreter's lock."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import pytest

from gateway.http import strict_json
from router.canonical import answer_key, json_key
from router.enums import TaskKind
from router.errors import InvalidRequest
from router.strict_json import NotJson, loads
from router.verify.candidate import code_of
from router.verify.checks.format import FormatParams, run

SIZE, TIMES = 2_000, 8  # what is quadratic takes 64 times as long; what is linear, 8
DEEP = "[" * 65


def numbered(text: str) -> None:
    run(FormatParams(numbered_steps=True), text)


def body(text: str) -> None:
    strict_json.loads(text.encode())


def number_key(text: str) -> None:
    answer_key(text, TaskKind.NUMBER)


def seconds(read: Callable[[str], object], text: str) -> float:
    """Of the processor, the best of three: at least a millisecond, below which a clock says little."""
    best = float("inf")
    for _ in range(3):
        started = time.process_time()
        with contextlib.suppress(NotJson, InvalidRequest):
            read(text)
        best = min(best, time.process_time() - started)
    return max(best, 0.001)


@pytest.mark.parametrize("read", [loads, body, json_key])
@pytest.mark.parametrize(
    "text",
    [
        lambda n: DEEP + '"' + '\\"' * n,
        lambda n: DEEP + '"' + '\\"' * n + "\\",
        lambda n: DEEP + '"' + '\\"' * n + "]",
        lambda n: DEEP + '"a' * n,
        lambda n: "{" + "".join(f'"{name:x}": 1, ' for name in range(n)) + '"z": 1, "z": 2}',
        lambda n: f"[{'0' * n}1, 0.{'1' * 8 * n}, 1.{'0' * 8 * n}]",
    ],
)
def test_json(read: Callable[[str], object], text: Callable[[int], str]) -> None:
    assert seconds(read, text(TIMES * SIZE)) < 4 * TIMES * seconds(read, text(SIZE))


@pytest.mark.parametrize("read", [numbered, code_of, number_key])
@pytest.mark.parametrize("unit", [" ", "\t", "*", "# ", "`", "1", "1 ", "\\boxed{", "```\n"])
def test_prose(read: Callable[[str], object], unit: str) -> None:
    text = ["Answer: 4\n" + unit * (size // len(unit)) + "x" for size in (SIZE, TIMES * SIZE)]
    assert seconds(read, text[1]) < 4 * TIMES * seconds(read, text[0])
