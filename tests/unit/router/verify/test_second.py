"""The second verifiers: they accept what the checks rightly accept, and share none of their parsing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from router.enums import Outcome
from router.errors import InvalidRequest
from router.verify.check_type import Judgement
from router.verify.protocol import Task
from router.verify.second.registry import AUDITED, PREFIX, SECOND_TYPES
from router.verify.spec import parse_checks
from router.verify.worker import judge

TRUTH = Path(__file__).parents[3] / "golden" / "verifiers" / "truth"
MATH_STRIDE = 25


def second(check: dict[str, Any], text: str) -> Judgement:
    (spec,) = parse_checks([check], where="checks", default_timeout_s=3.0)
    return judge(Task(f"{PREFIX}{spec.type}", dict(spec.params)), text)


@pytest.mark.parametrize("name", sorted(AUDITED))
def test_they_do_not_contradict_what_is_known_to_be_right(name: str) -> None:
    lines = (TRUTH / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    agreed = 0
    for line in lines[:: MATH_STRIDE if name == "math" else 1]:
        row = json.loads(line)
        fields = {key: value for key, value in row.items() if key not in ("text", "expect", "source", "values", "why")}
        texts = [json.dumps(value) for value, valid in row.get("values", ()) if valid]
        texts += [row["text"]] if row.get("expect") == "pass" else []
        try:
            (spec,) = parse_checks([{"type": name, **fields}], where="checks", default_timeout_s=3.0)
        except InvalidRequest:
            continue
        for text in texts:
            task = Task(spec.type, dict(spec.params))
            if judge(task, text).outcome is Outcome.PASS:
                found = judge(msgspec.structs.replace(task, type=f"{PREFIX}{name}"), text)
                assert found.outcome is not Outcome.FAIL, row
                agreed += found.outcome is Outcome.PASS
    assert agreed >= 35


@pytest.mark.parametrize("name", ["choice", "constraints", "exact", "math", "numeric"])
def test_they_accept_nothing_that_the_golden_corpus_calls_wrong(name: str) -> None:
    lines = (TRUTH.parent / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    wrong = [row for row in map(json.loads, lines) if row["expect"] == "fail"]
    if name == "math":  # the other references are met by formulas that only a deadline ends
        wrong = [row for row in wrong if row["check"]["reference"] == "18"]
    assert wrong and [row for row in wrong if second(row["check"], row["text"]).outcome is Outcome.PASS] == []


@pytest.mark.parametrize(
    ("check", "text"),
    [
        ({"type": "math", "reference": r"\sqrt{2}"}, r"\boxed{\sqrt{3}}"),
        ({"type": "math", "reference": "(1,2)"}, r"\boxed{(2,1)}"),
        ({"type": "math", "reference": "[0,1)"}, r"\boxed{[0,1]}"),
        ({"type": "math", "reference": "x<1"}, r"\boxed{x>1}"),
        ({"type": "math", "reference": "1/3"}, r"\boxed{0.3333333333333333}"),
        ({"type": "numeric", "reference": 18}, "Answer: 19"),
        ({"type": "numeric", "reference": 18}, "Answer: 18%"),
        ({"type": "exact", "reference": "Paris"}, "Answer: Rome"),
        ({"type": "exact", "reference": "Paris", "normalize": False}, "Answer: paris"),
        ({"type": "choice", "reference": "B", "options": ["a", "b"]}, "Answer: A"),
        ({"type": "regex", "pattern": r"\d+"}, "a1"),
        ({"type": "json_schema", "schema": {"type": "integer"}}, '"1"'),
        ({"type": "constraints", "rules": [{"rule": "unique"}]}, "[1, 1.0]"),
        ({"type": "constraints", "rules": [{"rule": "countdown", "numbers": [2, 3], "target": 6}]}, r"\boxed{2*2+2}"),
        ({"type": "constraints", "rules": [{"rule": "sudoku", "puzzle": ["1..."] + ["...."] * 3}]}, "1234\n" * 4),
    ],
)
def test_they_see_what_is_wrong(check: dict[str, Any], text: str) -> None:
    assert second(check, text).outcome is Outcome.FAIL


@pytest.mark.parametrize(
    ("check", "text"),
    [
        ({"type": "math", "reference": "5"}, "no number here"),
        ({"type": "math", "reference": "5"}, r"\boxed{5} or \boxed{6}"),
        ({"type": "numeric", "reference": 5}, "Answer: 4 or 5"),
        ({"type": "regex", "pattern": r"\pL+"}, "abc"),
        ({"type": "json_schema", "schema": True}, "{"),
        ({"type": "constraints", "rules": [{"rule": "sum", "max": 5}]}, '["a"]'),
    ],
)
def test_what_they_cannot_judge_is_an_error(check: dict[str, Any], text: str) -> None:
    found = second(check, text)
    assert (found.outcome, found.score) == (Outcome.ERROR, None)


def test_no_request_can_name_them() -> None:
    for name in SECOND_TYPES:
        with pytest.raises(InvalidRequest):
            parse_checks([{"type": name}], where="checks", default_timeout_s=3.0)
