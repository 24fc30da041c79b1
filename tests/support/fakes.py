"""Fakes behind the ports: a scripted engine, a verifier that reads its verdict in the text, a log in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from router.canonical import answer_key
from router.domain import CheckResult, CheckSpec, EngineInfo
from router.enums import Outcome, TaskKind
from router.errors import BackendError, LogUnavailable
from router.ports import Draw
from router.records import GroupRecord

ENGINE = EngineInfo("fake", "1", ("base",), True, "processed_logprobs", 2048, template_fingerprint="f" * 64)


@dataclass(frozen=True, slots=True)
class Line:
    """What the scripted engine says for one sample. `delay_s` passes before its last chunk, which calls the tools."""

    text: str
    finish_reason: str = "stop"
    delay_s: float = 0.0
    error: BackendError | None = None
    tool_calls: tuple[Mapping[str, Any], ...] = ()


@dataclass(slots=True)
class ScriptedBackend:
    """Says its lines in order, whatever it is asked. Keeps every draw, and how many samples were cancelled."""

    lines: Sequence[Line]
    draws: list[Draw] = field(default_factory=list)
    cancelled: int = 0
    up: bool = True
    loaded: dict[str, Path] = field(default_factory=dict)
    refuses_policies: BackendError | None = None
    degraded: str | None = None
    _next: int = 0

    def _take(self, count: int) -> list[Line]:
        lines = [self.lines[(self._next + offset) % len(self.lines)] for offset in range(count)]
        self._next += count
        return lines

    async def complete(self, draw: Draw) -> Mapping[str, Any]:
        """All samples of the draw, as one completion."""
        self.draws.append(draw)
        lines = self._take(draw.n)
        await asyncio.sleep(max(line.delay_s for line in lines))
        for line in lines:
            if line.error is not None:
                raise line.error
        tokens = sum(len(_ids(line)) for line in lines)
        return {
            "id": "chatcmpl-engine",
            "object": "chat.completion",
            "created": 1,
            "model": draw.model,
            "prompt_token_ids": [1, 2, 3],
            "choices": [_choice(index, line) for index, line in enumerate(lines)],
            "usage": {"prompt_tokens": 3, "completion_tokens": tokens, "total_tokens": 3 + tokens},
        }

    async def stream(self, draw: Draw) -> AsyncGenerator[Mapping[str, Any]]:
        """The samples of the draw, one after another by their delay."""
        self.draws.append(draw)
        lines = self._take(draw.n)
        running = set(range(draw.n))
        try:
            yield {"model": draw.model, "prompt_token_ids": [1, 2, 3], "choices": [_delta(0, {"role": "assistant"})]}
            waited = 0.0
            for index in sorted(running, key=lambda index: (lines[index].delay_s, index)):
                line = lines[index]
                half = len(line.text) // 2
                yield _chunk(draw, index, line, line.text[:half], _ids(line)[:half], finish=None)
                await asyncio.sleep(line.delay_s - waited)
                waited = line.delay_s
                if line.error is not None:
                    raise line.error
                running.discard(index)
                yield _chunk(draw, index, line, line.text[half:], _ids(line)[half:], finish=line.finish_reason)
            total = sum(len(_ids(line)) for line in lines)
            usage = {"prompt_tokens": 3, "completion_tokens": total, "total_tokens": 3 + total}
            yield {**_head(draw), "choices": [], "usage": usage}
        finally:
            self.cancelled += len(running)

    async def load_policy(self, name: str, folder: Path) -> None:
        """Remember it, unless the script refuses policies."""
        if self.refuses_policies is not None:
            raise self.refuses_policies
        self.loaded[name] = folder

    async def probe(self) -> EngineInfo:
        """The fixed engine."""
        return ENGINE

    async def alive(self) -> bool:
        """Whether the script says so."""
        return self.up


def _ids(line: Line) -> list[int]:
    return [ord(char) for char in line.text]


def _logprobs(ids: Sequence[int]) -> dict[str, Any]:
    return {"content": [{"token": chr(i), "logprob": -0.5, "bytes": None, "top_logprobs": []} for i in ids]}


def _choice(index: int, line: Line) -> dict[str, Any]:
    return {
        "index": index,
        "message": {"role": "assistant", "content": line.text} | _calls(line),
        "logprobs": _logprobs(_ids(line)),
        "finish_reason": line.finish_reason,
        "stop_reason": None,
        "token_ids": _ids(line),
    }


def _calls(line: Line, *, delta: bool = False) -> dict[str, Any]:
    calls = [dict(call) | ({"index": index} if delta else {}) for index, call in enumerate(line.tool_calls)]
    return {"tool_calls": calls} if calls else {}


def _delta(index: int, delta: Mapping[str, Any]) -> dict[str, Any]:
    return {"index": index, "delta": dict(delta), "logprobs": None, "finish_reason": None, "token_ids": None}


def _chunk(draw: Draw, index: int, line: Line, text: str, ids: list[int], *, finish: str | None) -> dict[str, Any]:
    calls = {} if finish is None else _calls(line, delta=True)
    choice = _delta(index, {"content": text} | calls)
    choice |= {"token_ids": ids, "logprobs": _logprobs(ids), "finish_reason": finish}
    return {**_head(draw), "choices": [choice]}


def _head(draw: Draw) -> dict[str, Any]:
    return {"id": "chatcmpl-engine", "object": "chat.completion.chunk", "created": 1, "model": draw.model}


@dataclass(slots=True)
class TextVerifier:
    """A check passes when the text holds `params["want"]`; texts with the words `error` or `timeout` get those."""

    up: bool = True
    free: bool = True
    calls: int = 0

    async def verify(self, checks: Sequence[CheckSpec], text: str) -> tuple[CheckResult, ...]:
        """One result a check."""
        self.calls += 1
        return tuple(_judge(check, text) for check in checks)

    def available(self, checks: Sequence[CheckSpec]) -> bool:
        """Whether the script says so."""
        return self.up

    @property
    def down(self) -> tuple[str, ...]:
        """The workers, when the script says so."""
        return () if self.up else ("verifier",)

    def idle(self) -> bool:
        """Whether the script says so."""
        return self.free


def _judge(check: CheckSpec, text: str) -> CheckResult:
    special = next((outcome for outcome in (Outcome.ERROR, Outcome.TIMEOUT) if outcome.value in text), None)
    outcome = special or (Outcome.PASS if str(check.params["want"]) in text else Outcome.FAIL)
    score = None if special else float(outcome is Outcome.PASS)
    return CheckResult(check.id, check.type, check.klass, outcome, score, 1.0, check.version)


@dataclass(slots=True)
class ListLog:
    """Keeps the groups; refuses them when told to."""

    records: list[GroupRecord] = field(default_factory=list)
    full: bool = False

    @property
    def healthy(self) -> str | None:
        """What is wrong with it."""
        return "full" if self.full else None

    @property
    def queue_length(self) -> int:
        """Nothing waits."""
        return 0

    def admit(self) -> None:
        """Refuse when full."""
        if self.full:
            raise LogUnavailable("the log is full")

    async def append(self, record: GroupRecord) -> None:
        """Keep it."""
        self.records.append(record)


async def numeric_only(checks: Sequence[CheckSpec], text: str) -> tuple[CheckResult, ...]:
    """`numeric` checks by the vote's own key; all others are skipped."""
    results = []
    for check in checks:
        outcome, score = Outcome.SKIPPED, None
        if check.type == "numeric":
            right = answer_key(text, TaskKind.NUMBER) == answer_key(str(check.params["reference"]), TaskKind.NUMBER)
            outcome, score = (Outcome.PASS, 1.0) if right else (Outcome.FAIL, 0.0)
        results.append(CheckResult(check.id, check.type, check.klass, outcome, score, 0.0, check.version))
    return tuple(results)
