import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from router.cli import main
from router.simulation.bank import load_bank

Completion = Callable[..., dict[str, Any]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"question": f"row {row}", "answer": str(row)}) + "\n" for row in range(3)))
    return path


def record(url: str, data: Path, out: Path, *more: str) -> int:
    return main(["bench", "record", "--url", url, "--data", str(data), "--out", str(out), "--samples", "2", *more])


def test_a_recorded_bank_can_be_read(gateway: Any, make_completion: Completion, data: Path, tmp_path: Path) -> None:
    def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        logprobs = {"content": [{"token": "4", "logprob": -0.25, "bytes": None, "top_logprobs": []}], "refusal": None}
        reply = make_completion("verified")
        reply["choices"][0] |= {"logprobs": logprobs}
        return 200, reply

    gateway.answer = answer
    assert record(gateway.url, data, tmp_path / "bank.jsonl") == 0
    rows = load_bank(tmp_path / "bank.jsonl")
    assert sorted(row.prompt.last_user_text for row in rows) == ["row 0", "row 1", "row 2"]
    assert all(len(row.samples) == 2 and row.samples[0].logprobs == (-0.25,) for row in rows)
    assert {row.checks[0].type for row in rows} == {"numeric"}
    bounds = [body["verification"]["samples"] for body in gateway.requests]
    assert bounds == [{"min": 1, "max": 1}] * 6
    assert len({body["seed"] for body in gateway.requests}) == 6
    assert all(headers["x-thinktwice-purpose"] == "eval" for headers in gateway.headers)


def test_a_problem_with_a_failed_request_is_left_out(
    gateway: Any, make_completion: Completion, data: Path, tmp_path: Path
) -> None:
    asked: Counter[str] = Counter()

    def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        text = body["messages"][-1]["content"]
        asked[text] += 1
        if text == "row 1" and asked[text] == 2:
            return 503, {"error": {"message": "busy", "type": "server_error", "param": None, "code": "overloaded"}}
        return 200, make_completion("verified")

    gateway.answer = answer
    assert record(gateway.url, data, tmp_path / "bank.jsonl") == 0
    assert [row.id for row in load_bank(tmp_path / "bank.jsonl")] in (["1", "3"], ["3", "1"])


def test_nothing_is_overwritten(gateway: Any, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "bank.jsonl"
    out.write_text("precious")
    assert record(gateway.url, data, out) == 2
    assert out.read_text() == "precious" and not gateway.requests
