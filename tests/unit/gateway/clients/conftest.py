"""A scripted gateway on a loopback port: what the command-line clients talk to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


def verification(status: str = "verified", **fields: Any) -> dict[str, Any]:
    """A response extension."""
    return {
        "status": status,
        "reason": "decisive_pass" if status == "verified" else "all_failed",
        "route": "vote",
        "escalated": False,
        "samples": 3,
        "votes": 2,
        "agreement": 0.67,
        "difficulty": 0.7,
        "stopped": "decisive",
        "profile": None,
        "score": 1.0,
        "checks": [],
        "group_id": "019a",
        "policy": "tiny-model",
        "cost_usd": 0.00012,
        "cached": False,
    } | fields


def completion(
    text: str | None = "It is 42.", *, extension: dict[str, Any] | None = None, **choice: Any
) -> dict[str, Any]:
    """A chat completion as the gateway sends it."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "champion",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop", "logprobs": None}
            | choice
        ],
        "usage": {"prompt_tokens": 20, "completion_tokens": 30, "total_tokens": 50},
        "verification": verification() if extension is None else extension,
    }


def error(code: str, message: str) -> dict[str, Any]:
    """An OpenAI error body."""
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}


Answer = Callable[[dict[str, Any]], tuple[int, dict[str, Any]]]


class ScriptedGateway:
    """Answers each chat request by `answer(body) -> (status, body)`; keeps what it was sent."""

    def __init__(self) -> None:
        self.answer: Answer = lambda body: (200, completion())
        self.stream_tail: list[str] | None = None  # replaces the events after the text
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._send(200, {"object": "list", "data": [{"id": "champion", "object": "model"}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                gateway.requests.append(body)
                gateway.headers.append({name.lower(): value for name, value in self.headers.items()})
                status, answer = gateway.answer(body)
                if status == 200 and body.get("stream"):
                    self._stream(answer)
                else:
                    self._send(status, answer)

            def _send(self, status: int, body: dict[str, Any]) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def _stream(self, answer: dict[str, Any]) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                for event in [": keep-alive", *text_events(answer), *(gateway.stream_tail or tail_events(answer))]:
                    self.wfile.write(f"{event}\n\n".encode())

            def log_message(self, format: str, *args: Any) -> None:
                """Keep the test output quiet."""

        return Handler


def _event(answer: dict[str, Any], choices: list[dict[str, Any]], **fields: Any) -> str:
    head = {"id": answer["id"], "object": "chat.completion.chunk", "created": 1, "model": answer["model"]}
    return "data: " + json.dumps({**head, "choices": choices, **fields})


def text_events(answer: dict[str, Any]) -> list[str]:
    """The chunks that carry the text, a word each."""
    message = answer["choices"][0]["message"]
    field = "refusal" if message.get("refusal") else "content"
    words = (message[field] or "").split(" ")
    pieces = [word if position == 0 else f" {word}" for position, word in enumerate(words)]
    return [_event(answer, [{"index": 0, "delta": {field: piece}, "finish_reason": None}]) for piece in pieces]


def tail_events(answer: dict[str, Any]) -> list[str]:
    """The last chunk with the verdict, the usage chunk, the end."""
    ending = {"index": 0, "delta": {}, "finish_reason": answer["choices"][0]["finish_reason"]}
    return [
        _event(answer, [ending], verification=answer["verification"]),
        _event(answer, [], usage=answer["usage"]),
        "data: [DONE]",
    ]


@pytest.fixture
def gateway() -> Iterator[ScriptedGateway]:
    server = ScriptedGateway()
    yield server
    server.stop()


@pytest.fixture
def make_completion() -> Callable[..., dict[str, Any]]:
    """`make_completion(status, text=..., **verification)`."""

    def make(status: str = "verified", text: str | None = "It is 42.", **fields: Any) -> dict[str, Any]:
        return completion(text, extension=verification(status, **fields))

    return make


@pytest.fixture
def make_refusal() -> Callable[[str], dict[str, Any]]:
    """A 200 that withholds the answer."""

    def make(refusal: str) -> dict[str, Any]:
        message = {"role": "assistant", "content": None, "refusal": refusal}
        return completion(None, extension=verification("failed"), message=message, finish_reason="content_filter")

    return make


@pytest.fixture
def make_error() -> Callable[[str, str], dict[str, Any]]:
    """An OpenAI error body of a code and a message."""
    return error


@pytest.fixture
def closed_url() -> str:
    """The URL of a port that nothing listens on."""
    server = ScriptedGateway()
    server.stop()
    return server.url
