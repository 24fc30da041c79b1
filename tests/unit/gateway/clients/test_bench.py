"""`thinktwice bench solve` against a scripted gateway whose solve rate is known."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from router.cli import main

Completion = Callable[..., dict[str, Any]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "ten.jsonl"
    rows = [{"id": f"row-{each}", "question": f"What is {each} + 1?", "answer": str(each + 1)} for each in range(10)]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return path


@pytest.fixture
def graded(gateway: Any, make_completion: Completion) -> Any:
    """Always-1 solves the even rows, always-5 all, auto the first seven; what each draws it pays."""

    def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        number = int(body["messages"][-1]["content"].split()[2])
        most = body["verification"].get("samples", {}).get("max")
        solved = {1: number % 2 == 0, 5: True, None: number < 7}[most]
        drawn = most or 2
        reply = make_completion("verified" if solved else "failed", samples=drawn, cost_usd=0.001 * drawn)
        reply["usage"] = {"prompt_tokens": 20, "completion_tokens": 30 * drawn, "total_tokens": 20 + 30 * drawn}
        return 200, reply

    gateway.answer = answer
    return gateway


def solve(gateway: Any, data: Path, *arguments: str) -> int:
    return main(["bench", "solve", "--data", str(data), "--url", gateway.url, *arguments])


def test_json_holds_the_known_rates(graded: Any, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert solve(graded, data, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    policies = {each["policy"]: each for each in result["policies"]}
    assert {name: each["solve_rate"]["value"] for name, each in policies.items()} == {
        "always-1": 0.5,
        "always-5": 1.0,
        "auto": 0.7,
    }
    always_1 = policies["always-1"]
    assert always_1["n"] == 10
    assert always_1["solve_rate"]["low"] == pytest.approx(0.2366, abs=1e-4)
    assert always_1["tokens_per_request"]["value"] == 50
    assert always_1["tokens_per_solved"]["value"] == 100
    assert always_1["cost_per_solved_usd"]["value"] == pytest.approx(0.002)
    assert always_1["samples_mean"]["value"] == 1
    assert always_1["statuses"]["failed"]["successes"] == 5
    assert always_1["errors"] == {}


def test_paired_differences_are_by_row(graded: Any, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    solve(graded, data, "--json")
    result = json.loads(capsys.readouterr().out)
    pairs = {(each["policy"], each["baseline"]): each for each in result["differences"]}
    assert set(pairs) == {("always-5", "always-1"), ("auto", "always-1"), ("auto", "always-5")}
    difference = pairs["auto", "always-1"]["solve_rate"]
    assert (difference["value"], difference["n"]) == (pytest.approx(0.2), 10)
    assert difference["low"] < 0.2 < difference["high"]
    assert pairs["auto", "always-5"]["tokens_per_request"]["value"] == -90


def test_requests_ask_for_no_cache_and_evaluation(graded: Any, data: Path) -> None:
    solve(graded, data, "--json", "--max-tokens", "64", "--limit", "1")
    assert len(graded.requests) == 3
    for request, headers in zip(graded.requests, graded.headers, strict=True):
        assert headers["cache-control"] == "no-store"
        assert headers["x-thinktwice-purpose"] == "eval"
        assert request["max_tokens"] == 64
        assert request["verification"]["checks"] == [{"type": "numeric", "reference": "1"}]
        assert request["messages"][0] == {
            "role": "system",
            "content": "Solve the problem. End with the final answer in \\boxed{}.",
        }


def test_policies_set_the_sample_bounds(graded: Any, data: Path) -> None:
    solve(graded, data, "--json", "--limit", "2")
    bounds = Counter(json.dumps(each["verification"].get("samples")) for each in graded.requests)
    assert bounds == {'{"min": 1, "max": 1}': 2, '{"min": 5, "max": 5}': 2, "null": 2}


def test_policies_are_interleaved_in_a_seeded_order(graded: Any, data: Path) -> None:
    def order(seed: str) -> list[int | None]:
        graded.requests.clear()
        solve(graded, data, "--json", "--concurrency", "1", "--seed", seed)
        return [each["verification"].get("samples", {}).get("max") for each in graded.requests]

    first = order("1")
    assert first == order("1")
    assert first != order("2")
    triples = [tuple(first[start : start + 3]) for start in range(0, 30, 3)]
    assert all(set(triple) == {1, 5, None} for triple in triples)
    assert len(set(triples)) > 1


def test_system_message_can_be_replaced_or_left_out(graded: Any, data: Path, tmp_path: Path) -> None:
    (tmp_path / "system.txt").write_text("Answer in French.\n")
    for arguments, roles in (
        (["--system", "Be brief."], ["system", "user"]),
        (["--system", ""], ["user"]),
        (["--system-file", str(tmp_path / "system.txt")], ["system", "user"]),
    ):
        graded.requests.clear()
        solve(graded, data, "--json", "--limit", "1", "--policies", "auto", *arguments)
        assert [each["role"] for each in graded.requests[0]["messages"]] == roles
    assert graded.requests[0]["messages"][0]["content"] == "Answer in French."


def test_concurrency_is_bounded(gateway: Any, data: Path, make_completion: Completion) -> None:
    lock, active, most = threading.Lock(), 0, 0

    def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        nonlocal active, most
        with lock:
            active += 1
            most = max(most, active)
        time.sleep(0.02)
        with lock:
            active -= 1
        return 200, make_completion()

    gateway.answer = answer
    assert solve(gateway, data, "--json", "--concurrency", "3") == 0
    assert most == 3


def test_tables_show_every_policy_and_interval(graded: Any, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert solve(graded, data) == 0
    shown = capsys.readouterr().out
    for text in ("always-1", "always-5", "auto", "50.0 [23.7, 76.3]", "auto - always-5", "Answers by status"):
        assert text in shown


def test_out_writes_json_and_markdown(graded: Any, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    assert solve(graded, data, "--out", str(out), "--policies", "always-1,auto") == 0
    (result,), (page,) = sorted(out.glob("*.json")), sorted(out.glob("*.md"))
    assert result.stem == page.stem
    stored, text = json.loads(result.read_text()), page.read_text()
    assert len(stored["data_sha256"]) == 64
    for key in ("command", "date", "model", "served_by", "versions", "machine", "data_sha256", "seed", "concurrency"):
        assert key in stored
        assert key.replace("_", " ") in text
    assert "| always-1 | 10 |" in text
    assert stored["served_by"] == "tiny-model"


class TestFailures:
    def test_errors_are_counted_and_solve_nothing(
        self,
        graded: Any,
        data: Path,
        make_error: Callable[[str, str], dict[str, Any]],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        scripted = graded.answer
        graded.answer = lambda body: (
            (503, make_error("verifier_unavailable", "down")) if "3 +" in str(body["messages"]) else scripted(body)
        )
        assert solve(graded, data, "--json", "--policies", "always-5") == 0
        (policy,) = json.loads(capsys.readouterr().out)["policies"]
        assert policy["errors"] == {"503 verifier_unavailable": 1}
        assert (policy["solve_rate"]["successes"], policy["solve_rate"]["n"]) == (9, 10)
        assert policy["tokens_per_request"]["n"] == 9

    def test_when_nothing_is_answered_the_exit_code_says_so(
        self,
        gateway: Any,
        data: Path,
        make_error: Callable[[str, str], dict[str, Any]],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        gateway.answer = lambda body: (503, make_error("backend_unavailable", "no engine"))
        assert solve(gateway, data) == 1
        assert "10 x 503 backend_unavailable" in capsys.readouterr().out

    def test_a_gateway_without_prices_has_no_cost(
        self, gateway: Any, data: Path, make_completion: Completion, capsys: pytest.CaptureFixture[str]
    ) -> None:
        gateway.answer = lambda body: (200, make_completion(cost_usd=None))
        solve(gateway, data, "--json")
        for policy in json.loads(capsys.readouterr().out)["policies"]:
            assert policy["cost_per_solved_usd"] == {"value": None, "n": 0, "low": None, "high": None}

    def test_nothing_solved_has_no_cost_per_solved(
        self, gateway: Any, data: Path, make_completion: Completion, capsys: pytest.CaptureFixture[str]
    ) -> None:
        gateway.answer = lambda body: (200, make_completion("failed"))
        assert solve(gateway, data, "--json", "--policies", "auto") == 0
        (policy,) = json.loads(capsys.readouterr().out)["policies"]
        assert policy["tokens_per_solved"]["value"] is None
        assert policy["solve_rate"]["value"] == 0.0

    def test_no_gateway_is_one_line(self, closed_url: str, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["bench", "solve", "--data", str(data), "--url", closed_url]) == 1
        captured = capsys.readouterr()
        assert captured.err == f"thinktwice: no gateway at {closed_url}: start it with `thinktwice up`, or give --url\n"
        assert captured.out == ""

    def test_ctrl_c_prints_what_there_is(self, gateway: Any, data: Path, make_completion: Completion) -> None:
        def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
            time.sleep(2 if len(gateway.requests) > 4 else 0)  # 30 requests cannot end before the signal
            return 200, make_completion()

        gateway.answer = answer
        command = [sys.executable, "-m", "router", "bench", "solve", "--json", "--concurrency", "1"]
        process = subprocess.Popen(
            [*command, "--data", str(data), "--url", gateway.url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ,
        )
        deadline = time.monotonic() + 60
        while len(gateway.requests) < 6 and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 130
        assert err == ""
        result = json.loads(out)
        assert result["interrupted"] is True
        assert 0 < sum(each["n"] for each in result["policies"]) < 30
