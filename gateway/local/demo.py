"""The demonstration: real requests through the official SDK, printed as they went. Nothing is staged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from itertools import chain
from typing import Any

import openai
from rich.console import Console
from rich.table import Table

from gateway.client import Reply, connect, error_message, one_line_errors, reply_of, stream_reply, verification_of
from router.errors import ThinkTwiceError

STYLE = {"verified": "green", "consensus": "cyan", "unverified": "yellow", "failed": "red"}
# Worked examples show so small a model the form of an answer; they share no number with the problems.
EXAMPLES = (
    ("What is 13 + 24?", "13 + 24 = 37. The answer is \\boxed{37}."),
    ("Ann has 7 pens and buys 4 more. How many pens has she now?", "7 + 4 = 11. The answer is \\boxed{11}."),
    ("What is 6 * 4?", "6 * 4 = 24. The answer is \\boxed{24}."),
)
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 40},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}


class ContractBroken(ThinkTwiceError):
    """The gateway did something its contract does not allow."""


class Demo:
    """Drives one gateway."""

    def __init__(self, url: str, console: Console) -> None:
        self._url, self._console = url, console
        self._client = connect(url)

    def run(self) -> bool:
        """Every step in turn. False when the contract broke or no problem verified."""
        try:
            with one_line_errors(self._url):
                self._easy()
                solved = self._hard()
                if solved is not None:
                    self._again(solved)
                self._not_verifiable()
                self._extraction()
                self._scorecard()
        except ContractBroken as broken:
            self._console.print(f"contract broken: {broken}", style="bold red")
            return False
        if solved is None:
            self._console.print("none of the ten problems verified", style="bold red")
        return solved is not None

    def _easy(self) -> None:
        self._title("An easy prompt: one sample, streamed token by token")
        request = {"messages": [{"role": "user", "content": "Say hello in one short sentence."}], "max_tokens": 40}
        reply = stream_reply(
            self._client, {"model": "champion", **request}, lambda text: self._console.out(text, end="")
        )
        self._console.print()
        self._verdict(reply)
        _expect(reply.verification["route"] == "single" and reply.verification["samples"] == 1, "one sample was due")

    def _hard(self) -> dict[str, Any] | None:
        """Walk the problems until one verifies; returns its request."""
        self._title("A hard prompt: several samples, each checked, stopped at the first that passes")
        problems = json.loads(files("gateway.local").joinpath("demo_problems.json").read_text())
        for tried, problem in enumerate(problems, 1):
            request = _problem_request(problem)
            reply = reply_of(self._client.chat.completions.create(**request))
            self._console.print(
                f"{tried}. {problem['question']}  (reference {problem['answer']}, not shown to the model)"
            )
            self._verdict(reply, checks=True)
            if reply.verification["status"] == "verified":
                self._console.print(f"verified at problem {tried} of {len(problems)}; its answer:", style="dim")
                self._console.print((reply.text or "").strip(), markup=False)
                return request
        return None

    def _again(self, request: dict[str, Any]) -> None:
        self._title("The same prompt again: served from the cache of verified answers")
        reply = reply_of(self._client.chat.completions.create(**request))
        self._verdict(reply)
        _expect(reply.verification["cached"] is True and reply.tokens == 0, "a verified answer was due from the cache")

    def _not_verifiable(self) -> None:
        self._title("A prompt that cannot be verified, under on_failure: error")
        verification = {
            "on_failure": "error",
            "samples": {"max": 2},
            "checks": [{"type": "exact", "reference": "a number nobody was told"}],
        }
        try:
            self._client.chat.completions.create(
                model="champion",
                messages=[{"role": "user", "content": "Which number am I thinking of?"}],
                max_tokens=60,
                extra_body={"verification": verification},
            )
        except openai.UnprocessableEntityError as error:
            self._console.print(f"HTTP 422 {error.code}: {error_message(error)}", style="red")
            _expect(error.code in ("verification_failed", "not_verified"), f"unknown error code {error.code}")
        else:
            raise ContractBroken("an answer that did not verify was returned under on_failure: error")

    def _extraction(self) -> None:
        self._title("An extraction to a JSON schema: the format is a check too")
        completion = self._client.chat.completions.create(
            model="champion",
            messages=[{"role": "user", "content": "Give name and age as JSON: Maria Lopez turned 34 last week."}],
            response_format={"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}},
            max_tokens=80,
        )
        reply = reply_of(completion)
        self._console.print((reply.text or "").strip(), markup=False)
        self._verdict(reply, checks=True)
        checks = {check["type"] for check in verification_of(completion)["checks"]}
        _expect("json_schema" in checks, "response_format implies a json_schema check")

    def _scorecard(self) -> None:
        self._title("The scorecard so far (GET /v1/scorecard)")
        card: Any = self._client.get("/scorecard", cast_to=object)
        table = Table("figure", "value", "95 % interval", "n", box=None, header_style="dim", pad_edge=False)
        figures = {
            "solve rate": card["solve_rate"],
            "tokens per solved": card["tokens_per_solved"],
            "cost per solved, US$": card["cost_per_solved_usd"],
            "cache hit rate": card["cache"]["hit_rate"],
            "latency p50, s": card["latency_seconds"]["p50"],
        }
        for name, estimate in figures.items():
            table.add_row(name, _number(estimate["value"]), _interval(estimate), str(estimate["n"]))
        self._console.print(table)
        _expect(card["requests"]["answered"] >= 1, "the scorecard counts answers")

    def _title(self, text: str) -> None:
        self._console.print(f"\n[bold]{text}[/]")

    def _verdict(self, reply: Reply, *, checks: bool = False) -> None:
        v = reply.verification
        status = f"[{STYLE[v['status']]}]{v['status']}[/] ({v['reason']})"
        cost = "no price table" if v["cost_usd"] is None else f"${v['cost_usd']:.6f}"
        votes = f"{v['votes']} of {v['samples']} samples agree"
        tokens = f"{reply.tokens} tokens"
        self._console.print(f"   {status}  route {v['route']}, {votes}, stopped: {v['stopped']}, {tokens}, {cost}")
        for check in v["checks"] if checks else ():
            self._console.print(
                f"   check {check['id']} {check['type']}: {check['outcome']} in {check['ms']:.1f} ms", style="dim"
            )


def _problem_request(problem: Mapping[str, str]) -> dict[str, Any]:
    turns = zip(("user", "assistant") * len(EXAMPLES), chain.from_iterable(EXAMPLES), strict=True)
    examples = [{"role": role, "content": content} for role, content in turns]
    return {
        "model": "champion",
        "messages": [*examples, {"role": "user", "content": problem["question"]}],
        "max_tokens": 80,
        "reasoning_effort": "high",
        "extra_body": {"verification": {"checks": [{"type": "numeric", "reference": problem["answer"]}]}},
    }


def _expect(held: bool, what: str) -> None:
    if not held:
        raise ContractBroken(what)


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"


def _interval(estimate: Mapping[str, Any]) -> str:
    return "" if estimate["low"] is None else f"{estimate['low']:.4g} to {estimate['high']:.4g}"
