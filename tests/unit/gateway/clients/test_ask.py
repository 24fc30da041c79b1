"""`thinktwice ask`, from the command line to the request and back to the exit code."""

import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from router.cli import main


def ask(gateway: Any, *arguments: str) -> int:
    return main(["ask", "What is 6 * 7?", "--url", gateway.url, *arguments])


@pytest.mark.parametrize("mode", [[], ["--no-stream"]])
def test_the_answer_is_on_stdout_and_its_status_on_stderr(
    gateway: Any, capsys: pytest.CaptureFixture[str], mode: list[str]
) -> None:
    assert ask(gateway, *mode) == 0
    captured = capsys.readouterr()
    assert captured.out == "It is 42.\n"
    assert captured.err.count("\n") == 1
    for word in ("verified (decisive_pass)", "route vote", "samples 3", "votes 2", "$0.000120", "019a"):
        assert word in captured.err
    assert bool(gateway.requests[0].get("stream")) is not bool(mode)


def test_json_is_one_object(gateway: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(gateway, "--json") == 0
    captured = capsys.readouterr()
    reply = json.loads(captured.out)
    assert reply["text"] == "It is 42."
    assert reply["verification"]["status"] == "verified"
    assert captured.err == ""


@pytest.mark.parametrize("kind", ["numeric", "math", "exact"])
def test_a_reference_becomes_a_check(gateway: Any, kind: str) -> None:
    ask(gateway, f"--{kind}", "42", "--samples", "2", "4", "--on-failure", "refuse", "--effort", "high")
    request = gateway.requests[0]
    assert request["verification"] == {
        "checks": [{"type": kind, "reference": "42"}],
        "samples": {"min": 2, "max": 4},
        "on_failure": "refuse",
    }
    assert request["reasoning_effort"] == "high"


def test_a_plain_question_sends_nothing_else(gateway: Any) -> None:
    ask(gateway, "--no-stream")
    assert gateway.requests[0] == {"model": "champion", "messages": [{"role": "user", "content": "What is 6 * 7?"}]}


def test_the_question_can_come_from_stdin(gateway: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("How many?\n"))
    assert main(["ask", "-", "--url", gateway.url]) == 0
    assert gateway.requests[0]["messages"][0]["content"] == "How many?\n"


@pytest.mark.parametrize("mode", [[], ["--no-stream"], ["--json"]])
def test_a_refusal_is_exit_1(
    gateway: Any, capsys: pytest.CaptureFixture[str], make_refusal: Callable[[str], dict[str, Any]], mode: list[str]
) -> None:
    gateway.answer = lambda body: (200, make_refusal("No answer passed its checks."))
    assert ask(gateway, *mode) == 1
    assert "No answer passed its checks." in capsys.readouterr().out


def test_an_error_is_exit_1_and_one_line(
    gateway: Any, capsys: pytest.CaptureFixture[str], make_error: Callable[[str, str], dict[str, Any]]
) -> None:
    gateway.answer = lambda body: (422, make_error("not_verified", "no answer was verified: tie"))
    assert ask(gateway) == 1
    assert capsys.readouterr().err == (
        "thinktwice: the gateway refused the request (422 not_verified): no answer was verified: tie\n"
    )


def test_no_price_is_said(
    gateway: Any, capsys: pytest.CaptureFixture[str], make_completion: Callable[..., dict[str, Any]]
) -> None:
    gateway.answer = lambda body: (200, make_completion(cost_usd=None))
    assert ask(gateway) == 0
    assert "cost unknown" in capsys.readouterr().err


def test_an_unverified_answer_that_is_returned_is_exit_0(
    gateway: Any, capsys: pytest.CaptureFixture[str], make_completion: Callable[..., dict[str, Any]]
) -> None:
    gateway.answer = lambda body: (200, make_completion("failed", escalated=True))
    assert ask(gateway) == 0
    assert "route vote, escalated" in capsys.readouterr().err


def test_no_gateway_is_one_line(closed_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "hello", "--url", closed_url]) == 1
    shown = capsys.readouterr().err
    assert shown == f"thinktwice: no gateway at {closed_url}: start it with `thinktwice up`, or give --url\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["ask", "  "],
        ["ask", "hello", "--url", "nonsense"],
        ["ask", "hello", "--numeric", "1", "--math", "2"],
        ["ask", "hello", "--effort", "extreme"],
        ["ask", "hello", "--samples", "2"],
        ["ask"],
    ],
)
def test_usage_errors_are_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else -1
    assert code == 2
    assert "Traceback" not in capsys.readouterr().err
