"""A gateway on a loopback port that answers every chat request as a function of the request says, in threads."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias

Respond: TypeAlias = Callable[[Mapping[str, Any]], tuple[int, Mapping[str, Any]]]

CANDIDATE, CHAMPION = "policy-2-bbbbbbbb", "policy-1-aaaaaaaa"


def completion(policy: str, solved: bool = True, **changes: Any) -> tuple[int, dict[str, Any]]:
    """A chat completion with its verification; `changes` go into the verification, `tokens` and `finish` apart."""
    tokens, finish = changes.pop("tokens", 10), changes.pop("finish", "stop")
    verification = {
        "status": "verified" if solved else "failed",
        "reason": "decisive_pass" if solved else "all_failed",
        "samples": 1,
        "policy": policy,
        "cost_usd": 0.001,
    }
    return 200, {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "4"}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 5, "completion_tokens": tokens, "total_tokens": 5 + tokens},
        "verification": verification | changes,
    }


def refused(status: int, code: str) -> tuple[int, dict[str, Any]]:
    """An error object."""
    return status, {"error": {"message": "no", "type": "backend_error", "param": None, "code": code}}


@dataclass(slots=True)
class ScriptedGateway:
    """Use as a context manager. `requests` are headers and body of the chat requests, as they came."""

    respond: Respond
    models: Iterable[str] = ("base", "champion", CHAMPION, CANDIDATE)
    requests: list[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=list)
    _server: ThreadingHTTPServer | None = None
    _thread: threading.Thread | None = None

    def __enter__(self) -> ScriptedGateway:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None and self._thread is not None
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.server_port}"


def _handler(gateway: ScriptedGateway) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in gateway.models]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            gateway.requests.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self._send(*gateway.respond(body))

        def log_message(self, *_: object) -> None:
            pass

        def _send(self, status: int, body: Mapping[str, Any]) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with suppress(ConnectionError):  # the client was interrupted
                self.wfile.write(content)

    return Handler
