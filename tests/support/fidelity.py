"""One request sent twice, to an engine and to the gateway before it, and the two answers made comparable.

What is removed is what `docs/compatibility.md` says differs: ids, times, the model's name, `verification`. How a stream
is cut into chunks depends on who reads how fast, so that neighbouring chunks of one kind count as one.
"""

from __future__ import annotations

import http.client
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

GOLDEN = Path(__file__).parents[1] / "golden" / "fidelity"
CHAT = "/v1/chat/completions"
LOGPROB_TOLERANCE = 1e-3  # nats; two runs of one engine batch differently
_CHANGED = ("id", "created", "model", "verification")


@dataclass(frozen=True, slots=True)
class Case:
    """One request of the suite, and what is documented to differ for it."""

    name: str
    body: Any
    path: str = CHAT
    raw: str | None = None  # sent as it is, where the body is no JSON
    refused: bool = False  # by the gateway, in words of its own
    passes: bool = False  # at the engine, although the gateway refuses it
    settled: bool = False  # the gateway waits for the whole answer, so that its stream has two chunks
    status: int = 200  # that vLLM answers
    vllm: bool = False  # the embedded engine refuses it
    words: int = 0  # put before the last message

    def sent(self, model: str, without: str | None = None) -> bytes:
        """The request's bytes, naming `model` unless the case names one of its own, and leaving one field out."""
        if self.raw is not None:
            return self.raw.encode()
        body = {"model": model, **self.body} if isinstance(self.body, dict) else self.body
        if self.words:
            *before, last = body["messages"]
            body["messages"] = [*before, last | {"content": "sea " * self.words + last["content"]}]
        if without is not None and isinstance(body, dict):
            body.pop(without, None)
        return json.dumps(body).encode()


def cases(file: str) -> list[Case]:
    """The cases of a file of the suite."""
    return [Case(**case) for case in json.loads((GOLDEN / file).read_text())]


@dataclass(frozen=True, slots=True)
class Exchange:
    """What came back: one JSON object, or the events of a stream."""

    status: int
    content_type: str
    body: dict[str, Any] | None = None
    events: list[dict[str, Any]] = field(default_factory=list)
    done: bool = False


def exchange(url: str, path: str, data: bytes) -> Exchange:
    """POST `data` and read the whole answer."""
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=300)
    try:
        connection.request("POST", path, data, {"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read().decode()
        content_type = response.headers["Content-Type"]
    finally:
        connection.close()
    if not content_type.startswith("text/event-stream"):
        return Exchange(response.status, content_type, json.loads(text))
    data_lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line.startswith("data: ")]
    done = data_lines[-1:] == ["[DONE]"]
    return Exchange(response.status, content_type, None, [json.loads(x) for x in data_lines if x != "[DONE]"], done)


def comparable(answer: Exchange) -> dict[str, Any]:
    """The answer without what is documented to differ; logprobs are rounded, see `same`."""
    head = {"status": answer.status, "content_type": answer.content_type}
    if answer.body is not None:
        return head | {"body": _plain(answer.body)}
    errors = [event for event in answer.events if "error" in event]
    chunks = [event for event in answer.events if "error" not in event and not _empty(event)]
    closing = [_plain(chunk) for chunk in chunks if not chunk["choices"]]
    return head | {"choices": _choices(chunks), "closing": closing, "errors": errors, "done": answer.done}


def answered(answer: Exchange) -> dict[str, Any]:
    """What an answer says whichever way it was sent: the message, its end and the tokens of each choice."""
    if answer.body is not None:
        choices = {choice["index"]: choice for choice in answer.body["choices"]}
        messages = {index: _said(choice["message"]) for index, choice in choices.items()}
        return {"messages": messages, "ends": {index: choice["finish_reason"] for index, choice in choices.items()}}
    choices = _choices([event for event in answer.events if event.get("choices")])
    messages = {index: _said(choice["message"]) for index, choice in choices.items()}
    return {"messages": messages, "ends": {index: choice["finish_reason"] for index, choice in choices.items()}}


def same(theirs: Any, ours: Any, where: str = "") -> list[str]:
    """Every place where two comparable answers differ."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        names = [f"{where}.{name}: {'ours' if name in theirs else 'theirs'} lacks it" for name in theirs.keys() ^ ours]
        return names + [d for name in theirs.keys() & ours for d in same(theirs[name], ours[name], f"{where}.{name}")]
    if isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        return [d for i, pair in enumerate(zip(theirs, ours, strict=True)) for d in same(*pair, f"{where}[{i}]")]
    if isinstance(theirs, float) and isinstance(ours, float) and "logprob" in where:
        return [] if math.isclose(theirs, ours, abs_tol=LOGPROB_TOLERANCE) else [f"{where}: {theirs} and {ours}"]
    return [] if theirs == ours and type(theirs) is type(ours) else [f"{where}: theirs {theirs!r}, ours {ours!r}"]


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    plain = {name: item for name, item in value.items() if name not in _CHANGED}
    for choice in plain.get("choices") or ():
        for call in (choice.get("message") or choice.get("delta") or {}).get("tool_calls") or ():
            call["id"] = "call"
    return plain


def _empty(chunk: Mapping[str, Any]) -> bool:
    """A chunk for nothing but the tokens that a parser held back, which the gateway leaves out."""
    choices = chunk["choices"]
    return bool(choices) and all(not _holds(choice) and not choice.get("finish_reason") for choice in choices)


def _holds(choice: Mapping[str, Any]) -> bool:
    return bool(choice.get("delta") or choice.get("text") or choice.get("logprobs"))


def _choices(chunks: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Each choice of a stream: its message put together, its end, and the kinds of chunk that brought it, in order."""
    folded: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            into = folded.setdefault(choice["index"], {"message": {}, "logprobs": [], "token_ids": [], "kinds": []})
            delta = choice.get("delta") or {"text": choice.get("text")}
            _merge(into["message"], delta)
            into["logprobs"] += (choice.get("logprobs") or {}).get("content") or []
            into["token_ids"] += choice.get("token_ids") or []
            if choice.get("finish_reason") is not None:
                into |= {name: choice.get(name) for name in ("finish_reason", "stop_reason")}
            kind = [sorted(set(chunk) - set(_CHANGED)), sorted(choice), sorted(delta)]
            if into["kinds"][-1:] != [kind]:
                into["kinds"].append(kind)
    return folded


def _merge(message: dict[str, Any], delta: Mapping[str, Any]) -> None:
    for name, value in delta.items():
        if name == "tool_calls":
            calls = message.setdefault(name, {})
            for call in value:
                _merge_call(calls.setdefault(call["index"], {}), call)
        elif isinstance(value, str) and name != "role":
            message[name] = (message.get(name) or "") + value
        else:
            message[name] = value


def _merge_call(call: dict[str, Any], delta: Mapping[str, Any]) -> None:
    function = delta.get("function") or {}
    call |= {name: "call" if name == "id" else delta[name] for name in ("id", "type") if delta.get(name)}
    for name in ("name", "arguments"):
        call[name] = call.get(name, "") + (function.get(name) or "")


def _said(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message without null and empty fields and without the ids of its calls."""
    calls = message.get("tool_calls") or []
    if isinstance(calls, dict):  # put together from a stream
        said = [(call["name"], call["arguments"]) for _, call in sorted(calls.items())]
    else:
        said = [(call["function"]["name"], call["function"]["arguments"]) for call in calls]
    rest = {name: value for name, value in message.items() if value and name != "tool_calls"}
    return rest | ({"tool_calls": said} if said else {})
