"""`thinktwice bench tasks` against a scripted gateway that is right a known number of times."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.bench.tasks.catalogue import TASKS
from router.cli import main

Completion = Callable[..., dict[str, Any]]
RIGHT = (0, 1, 5, 2)  # of the five samples of each row


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "four.jsonl"
    rows = [
        {
            "messages": [{"role": "user", "content": f"row {row}"}],
            "verification": {"checks": [{"type": "numeric", "reference": row // 2}]},
        }
        for row in range(4)
    ]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return path


@pytest.fixture
def scripted(gateway: Any, make_completion: Completion) -> Any:
    asked: Counter[int] = Counter()

    def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        row = int(body["messages"][-1]["content"].split()[-1])
        asked[row] += 1
        reply = make_completion("verified" if asked[row] <= RIGHT[row] else "failed")
        reply["usage"] = {"prompt_tokens": 20, "completion_tokens": 10 + row, "total_tokens": 30 + row}
        reply["choices"][0]["finish_reason"] = "length" if row == 0 else "stop"
        return 200, reply

    gateway.answer = answer
    return gateway


def tasks(url: str, *arguments: str) -> int:
    return main(["bench", "tasks", "--url", url, *arguments])


def measured(url: str, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert tasks(url, "--json", *arguments) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_json_holds_the_known_rates(scripted: Any, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = measured(scripted.url, capsys, "--data", str(data))
    (task,) = result["tasks"]
    assert (task["task"], task["shots"], task["rows"], task["judged"]) == ("four", None, 4, 20)
    assert task["pass_1"]["value"] == pytest.approx((0 + 0.2 + 1 + 0.4) / 4)
    assert task["pass_1"]["low"] < 0.4 < task["pass_1"]["high"]
    assert task["pass_5"]["value"] == 0.75
    assert task["pass_5"]["low"] == pytest.approx(0.3006, abs=1e-4)  # Wilson's, 3 of 4
    assert (task["spread"]["successes"], task["spread"]["n"]) == (2, 4)
    assert task["constant"] == 0.5
    assert task["completion_tokens"]["value"] == 11.5
    assert task["truncated"]["value"] == 0.25
    assert task["errors"] == {}
    assert result["in_band"] == ["four"]


def test_every_sample_is_a_request_of_its_own(scripted: Any, data: Path) -> None:
    assert tasks(scripted.url, "--json", "--data", str(data), "--samples", "3") == 0
    assert Counter(each["messages"][0]["content"] for each in scripted.requests) == {
        f"row {row}": 3 for row in range(4)
    }
    assert len({each["seed"] for each in scripted.requests}) == 12
    for request, headers in zip(scripted.requests, scripted.headers, strict=True):
        assert headers["cache-control"] == "no-store"
        assert headers["x-thinktwice-purpose"] == "eval"
        assert request["verification"]["samples"] == {"min": 1, "max": 1}
        assert (request["temperature"], request["top_p"], request["top_k"], request["min_p"]) == (1, 1, -1, 0)
        assert request["max_tokens"] == 64


def test_a_run_repeats_by_its_seed(scripted: Any, data: Path) -> None:
    def seeds(seed: str) -> list[int]:
        scripted.requests.clear()
        tasks(scripted.url, "--json", "--data", str(data), "--concurrency", "1", "--seed", seed)
        return [each["seed"] for each in scripted.requests]

    first = seeds("1")
    assert first == seeds("1")
    assert set(first).isdisjoint(seeds("2"))


def test_generated_tasks_go_out_with_and_without_examples(gateway: Any, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--task", "add-1digit", "extract-order", "--rows", "2", "--samples", "1")
    result = measured(gateway.url, capsys, *arguments)
    assert [(each["task"], each["shots"]) for each in result["tasks"]] == [
        ("add-1digit", 0), ("add-1digit", 4), ("extract-order", 0), ("extract-order", 4),
    ]  # fmt: skip
    assert Counter(len(each["messages"]) for each in gateway.requests) == {1: 4, 9: 4}
    assert {each["max_tokens"] for each in gateway.requests} == {64, 96}
    assert len({each["messages"][-1]["content"] for each in gateway.requests}) == 4


def test_all_tasks_are_measured_when_none_is_named(gateway: Any, capsys: pytest.CaptureFixture[str]) -> None:
    result = measured(gateway.url, capsys, "--rows", "1", "--samples", "1", "--shots", "0", "--max-tokens", "7")
    assert [each["task"] for each in result["tasks"]] == list(TASKS)
    assert {each["max_tokens"] for each in gateway.requests} == {7}


def test_a_check_that_gave_no_verdict_is_neither_right_nor_wrong(
    gateway: Any, data: Path, make_completion: Completion, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        undecided = body["messages"][0]["content"] == "row 3"
        return 200, make_completion("unverified", reason="verifier_error") if undecided else make_completion()

    gateway.answer = answer
    (task,) = measured(gateway.url, capsys, "--data", str(data))["tasks"]
    assert task["errors"] == {"unverified verifier_error": 5}
    assert (task["pass_1"]["value"], task["rows"], task["judged"]) == (1.0, 3, 15)


def test_a_refused_request_is_an_error_and_no_sample(
    gateway: Any,
    data: Path,
    make_completion: Completion,
    make_error: Callable[[str, str], dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        failing = len(gateway.requests) == 1
        return (503, make_error("backend_unavailable", "down")) if failing else (200, make_completion("failed"))

    gateway.answer = answer
    (task,) = measured(gateway.url, capsys, "--data", str(data), "--concurrency", "1")["tasks"]
    assert task["errors"] == {"503 backend_unavailable": 1}
    assert (task["pass_1"]["n"], task["pass_5"]["n"]) == (4, 3)  # four samples are too few for pass@5
    assert task["pass_1"]["value"] == 0
    assert task["pass_1"]["high"] == pytest.approx(0.4899, abs=1e-4)  # Wilson's, 0 of 4


def test_the_table_and_the_page_name_the_tasks_in_the_band(
    scripted: Any, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results"
    assert tasks(scripted.url, "--data", str(data), "--out", str(out)) == 0
    (result,), (page,) = out.glob("*.json"), out.glob("*.md")
    assert result.stem == page.stem
    assert result.stem.startswith("tasks-")
    stored, text = json.loads(result.read_text()), page.read_text()
    assert len(stored["data_sha256"]["four.jsonl"]) == 64
    assert "# bench tasks" in text
    assert "| four | - | 4 | 40.0 [" in text
    for shown in (capsys.readouterr().out, text):
        assert "Tasks with pass@1 in 20 to 60 %: four." in shown


class TestWrite:
    def test_the_rows_of_one_task_are_written_and_nothing_is_sent(self, closed_url: str, tmp_path: Path) -> None:
        path = tmp_path / "rows.jsonl"
        arguments = ("--task", "multiply-1digit", "--shots", "2", "--rows", "3", "--write", str(path))
        assert tasks(closed_url, *arguments) == 0
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        assert [set(row) for row in rows] == [{"messages", "verification"}] * 3
        assert [len(row["messages"]) for row in rows] == [5] * 3

    def test_what_was_written_can_be_measured(
        self, gateway: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "rows.jsonl"
        tasks(gateway.url, "--task", "reverse-3", "--shots", "4", "--rows", "3", "--write", str(path))
        (task,) = measured(gateway.url, capsys, "--data", str(path))["tasks"]
        assert (task["task"], task["judged"]) == ("rows", 15)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--task", "add-9digit"], "no task 'add-9digit': choose from add-1digit, "),
        (["--task", "add-1digit", "--write", "x"], "name one --task and one --shots"),
        (["--write", "x"], "name one --task and one --shots"),
        (["--task", "add-1digit", "--shots", "0", "--write", "no/such/folder/x"], "give another --write"),
        (["--task", "add-1digit", "--rows", "78"], "no more than 77 different questions: ask for fewer --rows"),
        (["--data", "nowhere.jsonl"], "cannot read nowhere.jsonl"),
        (["--data", "a/rows.jsonl", "b/rows.jsonl"], "several files 'rows'"),
        (["--shots", "5"], "invalid choice: 5"),
        (["--samples", "0"], "is not a whole number of 1 or more"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_usage_errors_are_exit_2(
    closed_url: str, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    try:
        code = tasks(closed_url, *arguments)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else -1
    assert code == 2
    shown = capsys.readouterr().err
    assert says in shown
    assert "Traceback" not in shown


def test_no_gateway_is_one_line(closed_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert tasks(closed_url, "--task", "add-1digit", "--rows", "1") == 1
    assert capsys.readouterr().err.startswith(f"thinktwice: no gateway at {closed_url}: start it")
