"""Clients that keep asking whatever happens, and hold every answer against what they asked."""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.support.engine_process import TOLD, WRONG

PAUSE_S = 0.3  # between two questions of one client, on average
LOST_PAUSE_S = 1.0  # more, for one whose connection broke or was refused
HANG_S = 30.0  # far beyond the gateway's own deadline: who waits that long has been forgotten
KINDS = ("single", "voted", "checked", "repeated", "tooled")
_NONCE = re.compile(r"\bq\d+-\d+-\d+\b")
_REPEATED = 20  # questions that all clients share, so that the cache has something to give


@dataclass(slots=True)
class Outcomes:
    """What the clients met. Times are of the monotonic clock, in seconds."""

    requests: int = 0
    answers: Counter[str] = field(default_factory=Counter)  # by kind, route and status
    errors: Counter[str] = field(default_factory=Counter)  # by status and code
    lost: list[float] = field(default_factory=list)  # when a connection was refused or broke
    hangs: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    crossed: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)  # errors without OpenAI's error object, streams without an end
    groups: dict[str, str] = field(default_factory=dict)  # the prompt of every group that was answered

    @property
    def answered(self) -> int:
        return self.answers.total()


@dataclass(frozen=True, slots=True)
class Question:
    """One request and the answers that are right for it."""

    kind: str
    stream: bool
    text: str
    number: int

    @classmethod
    def draw(cls, client: int, turn: int, rng: random.Random) -> Question:
        """Any kind, each second one as a stream."""
        kind, number = rng.choice(KINDS), rng.randrange(1000)
        if kind == "repeated":
            number = rng.randrange(_REPEATED)
            return cls(kind, rng.random() < 0.5, f"checked q0-0-{number} How much? \\boxed{{{number}}}", number)
        return cls(kind, rng.random() < 0.5, f"{kind} q{client}-{turn}-{number} How much? \\boxed{{{number}}}", number)

    def body(self) -> dict[str, Any]:
        message = {"role": "user", "content": self.text}
        body: dict[str, Any] = {"model": "champion", "messages": [message], "stream": self.stream}
        match self.kind:
            case "single":
                body["reasoning_effort"] = "low"
            case "voted":
                body["reasoning_effort"] = "high"
            case "tooled":
                body["verification"] = {"profile": "tooled"}
            case _:
                body["verification"] = {"checks": [{"type": "numeric", "reference": self.number}]}
        return body

    def right(self, content: str | None, status: str) -> bool:
        """Whether this is the answer; a rejected or unjudged one may be wrong, if it is not called verified."""
        if self.kind == "tooled":
            return content == self.text + TOLD
        allowed = (
            {self.text} if self.kind in ("single", "voted") or status == "verified" else {self.text, self.text + WRONG}
        )
        return content in allowed


async def keep_asking(url: str, clients: int, stop: asyncio.Event, seed: int, outcomes: Outcomes) -> None:
    """`clients` at once, one connection each, until `stop`; every request is seen to its end."""
    timeout = aiohttp.ClientTimeout(total=HANG_S)
    connector = aiohttp.TCPConnector(limit=clients)
    async with aiohttp.ClientSession(url, connector=connector, timeout=timeout) as session:
        await asyncio.gather(*(_client(session, number, stop, seed, outcomes) for number in range(clients)))


async def ask_each_kind(url: str, outcomes: Outcomes) -> None:
    """One question of each kind and form, one after another."""
    async with aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=HANG_S)) as session:
        for turn, kind in enumerate(KINDS):
            for stream in (False, True):
                name = "checked" if kind == "repeated" else kind
                text = f"{name} q999-{turn}-{int(stream)} \\boxed{{{turn}}}"
                await _ask(session, Question(kind, stream, text, turn), outcomes)


async def _client(
    session: aiohttp.ClientSession, number: int, stop: asyncio.Event, seed: int, outcomes: Outcomes
) -> None:
    rng = random.Random(seed * 1000 + number)
    turn = 0
    while not stop.is_set():
        turn += 1
        await _ask(session, Question.draw(number + 1, turn, rng), outcomes)
        await asyncio.sleep(rng.uniform(0.0, 2 * PAUSE_S))


async def _ask(session: aiohttp.ClientSession, question: Question, outcomes: Outcomes) -> None:
    """Ask once, and note what came of it."""
    outcomes.requests += 1
    try:
        async with session.post("/v1/chat/completions", json=question.body()) as response:
            data = await response.read()
    except TimeoutError:
        outcomes.hangs.append(question.text)
    except (aiohttp.ClientError, ConnectionError):
        outcomes.lost.append(time.monotonic())
        await asyncio.sleep(LOST_PAUSE_S)
    else:
        hold(question, response.status, data, outcomes)


def hold(question: Question, status: int, data: bytes, outcomes: Outcomes) -> None:
    """Hold a whole response against its question."""
    try:
        streamed = status == 200 and question.stream
        error, content, verdict = _streamed(data) if streamed else _whole(status, data)
    except (ValueError, KeyError, TypeError, IndexError) as broken:
        outcomes.unclear.append(f"{status} {broken!r} {data[-200:]!r}")
        return
    if error is not None:
        if not isinstance(error.get("message"), str) or not error["message"]:
            outcomes.unclear.append(f"{status} {error}")
        outcomes.errors[f"{status} {error['code']}"] += 1
        return
    outcomes.answers[f"{question.kind} {verdict['route']} {verdict['status']}"] += 1
    outcomes.groups[verdict["group_id"]] = question.text
    said = f"{question.text!r} -> {content!r} ({verdict['status']})"
    if set(_NONCE.findall(content or "")) - set(_NONCE.findall(question.text)):
        outcomes.crossed.append(said)
    elif not question.right(content, verdict["status"]):
        outcomes.wrong.append(said)


def _whole(status: int, data: bytes) -> tuple[dict[str, Any] | None, str | None, dict[str, Any]]:
    body = json.loads(data)
    if status != 200:
        return body["error"], None, {}
    return None, body["choices"][0]["message"]["content"], body["verification"]


def _streamed(data: bytes) -> tuple[dict[str, Any] | None, str | None, dict[str, Any]]:
    if not data.endswith(b"data: [DONE]\n\n"):
        raise ValueError("the stream has no end")
    chunks = [json.loads(line[6:]) for line in data.splitlines() if line.startswith(b"data: {")]
    error = next((chunk["error"] for chunk in chunks if "error" in chunk), None)
    if error is not None:
        return error, None, {}
    content = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
    return None, content, next(chunk["verification"] for chunk in chunks if "verification" in chunk)
