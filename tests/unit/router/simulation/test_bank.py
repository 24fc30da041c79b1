import json
from pathlib import Path
from typing import Any

import pytest

from router.errors import ConfigError
from router.simulation.bank import load_bank
from tests.support.banks import bank_rows, write_bank


def test_a_bank_is_read_whole(tmp_path: Path) -> None:
    rows = load_bank(write_bank(tmp_path / "bank.jsonl", bank_rows(3)))
    assert [row.id for row in rows] == ["p0", "p1", "p2"]
    assert all([sample.index for sample in row.samples] == [0, 1, 2, 3, 4] for row in rows)
    assert [check.type for check in rows[0].checks] == ["numeric", "arithmetic_steps"]
    assert rows[0].samples[0].token_ids is not None and rows[0].samples[0].logprobs is not None


@pytest.mark.parametrize("field", ["id", "k", "text", "finish_reason", "question", "answer", "prompt_tokens"])
def test_a_missing_field_is_named_with_its_line(tmp_path: Path, field: str) -> None:
    rows = bank_rows(2)
    del rows[0][field]
    with pytest.raises(ConfigError, match=rf"bank\.jsonl:1: .*{field}.* missing"):
        load_bank(write_bank(tmp_path / "bank.jsonl", rows))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 1}, "comes twice"),
        ({"k": 7}, "not numbered from 0"),
        ({"completion_tokens": -1}, "whole numbers"),
        ({"logprobs": [float("nan")]}, "`logprobs` are numbers"),
        ({"answer": ""}, "`answer` is no number or text"),
    ],
)
def test_a_bad_field_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    rows = bank_rows(2)
    rows[0] |= change
    with pytest.raises(ConfigError, match=message):
        load_bank(write_bank(tmp_path / "bank.jsonl", rows))


@pytest.mark.parametrize(("text", "message"), [("", "is empty"), ("{", "not JSON"), ("[]", "not an object")])
def test_what_is_no_bank_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bank.jsonl"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_bank(path)


def test_groups_of_unequal_size_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="4 to 5 samples"):
        load_bank(write_bank(tmp_path / "bank.jsonl", bank_rows(2)[:-1]))


def test_messages_with_checks_are_a_problem_too(tmp_path: Path) -> None:
    row = {key: value for key, value in bank_rows(1)[0].items() if key not in ("question", "answer")}
    row |= {"messages": [{"role": "user", "content": "yes or no?"}], "checks": [{"type": "exact", "reference": "yes"}]}
    path = tmp_path / "bank.jsonl"
    path.write_text(json.dumps(row))
    [problem] = load_bank(path)
    assert problem.prompt.last_user_text == "yes or no?" and problem.checks[0].type == "exact"
