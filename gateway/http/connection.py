"""One client connection: uvicorn's HTTP/1.1 protocol, stricter where another parser could read the bytes differently.

What this refuses never reaches the application. The parser (llhttp) itself refuses the rest; docs/security.md lists
both, and `tests/integration/test_hostile_connections.py` sends each shape over a raw socket.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, ClassVar

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.http.http_errors import plain_error
from gateway.http.joined_writes import JoinedWrites

MAX_HEAD_BYTES = 16 * 1024  # as many as aiohttp, gunicorn and nginx take or fewer (vLLM CVE-2025-48956)
MAX_HEADERS = 100
MIN_BYTES_PER_S = 1024  # of a request that is still coming
_LINGER_S = 2.0  # what a refused client still sends is read away, so that it sees the answer and not a reset
_HOST = re.compile(rb"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_ONCE = (b"host", b"transfer-encoding")
_VERSIONS = ("1.1", "1.0")


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """`connections` are those of one process; `patience_s` is how long a slow client is waited for, in seconds."""

    connections: int
    patience_s: float


class Refusal(Exception):
    """The bytes are not a request that is served: `status` and a clear sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class StrictConnection(HttpToolsProtocol):
    """Refuses ambiguous framing (RFC 9112), heads beyond `MAX_HEAD_BYTES`, slow clients, and too many connections."""

    limits: ClassVar[ConnectionLimits]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._refusal: Refusal | None = None  # set in a callback of the parser, which hides what is raised there
        self._refused = False
        self._idle = True  # no byte of a request has come
        self._whole = False  # the last request that began was received to its end
        self._progress = False
        self._fed = 0  # bytes since those that last brought a head, a part of a body or an end
        self._received = 0  # bytes since the clock below was started
        self._clock: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, unless there are too many."""
        super().connection_made(transport)
        self.transport: JoinedWrites = JoinedWrites(transport)  # type: ignore[assignment]
        if len(self.connections) > self.limits.connections:
            self._refused = True
            transport.write(_response(Refusal(503, "too many connections are open: try again")))
            transport.close()  # at once: under a flood what lingers adds up
        else:
            self._start_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        self._stop_clock()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, and see that the client gets on."""
        if self._refused:
            return
        self._progress = False
        self._fed += len(data)
        super().data_received(data)
        if self._refused or self.transport.is_closing():
            return
        self._received += len(data)
        if self._progress:
            self._fed = 0
        elif self._fed > MAX_HEAD_BYTES:
            self._refuse(Refusal(431, f"a head or a chunk's extension is larger than {MAX_HEAD_BYTES} bytes"))
            return
        if self._clock is None and self._waits_for_client:
            self._start_clock()

    def on_message_begin(self) -> None:
        """A request begins."""
        self._idle = self._whole = False
        self.transport.hold()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Judge the head, then hand it on."""
        self._progress = True
        self._refusal = self._objection()
        if self._refusal is not None:
            raise self._refusal
        super().on_headers_complete()
        self.headers = []  # what a trailer brings is dropped, not added to the head (RFC 9110 section 6.5.1)

    def on_body(self, body: bytes) -> None:
        """A part of a body."""
        self._progress = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._progress = self._whole = True
        self._stop_clock()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser, or a callback of ours in it, refused."""
        self._refuse(self._refusal or Refusal(400, "this is not a valid HTTP/1.1 request"))

    def pause_writing(self) -> None:
        """The client reads slower than we write: it has `patience_s` to catch up."""
        super().pause_writing()
        self._unread = self.loop.call_later(self.limits.patience_s, self.transport.abort)

    def resume_writing(self) -> None:
        """It has."""
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        super().resume_writing()

    def _objection(self) -> Refusal | None:
        """Why this head is refused, where the parser itself would take it."""
        version, headers = self.parser.get_http_version(), self.headers
        if version not in _VERSIONS:
            return Refusal(505, "this server speaks HTTP/1.1")
        if len(headers) > MAX_HEADERS or (self._fed > MAX_HEAD_BYTES and self._head_bytes > MAX_HEAD_BYTES):
            return Refusal(431, f"the head has more than {MAX_HEADERS} headers or {MAX_HEAD_BYTES} bytes")
        fields = dict(headers)
        if len(fields) < len(headers) and any(_times(name, headers) > 1 for name in _ONCE):
            return Refusal(400, "a request has one Host and one Transfer-Encoding header at most")
        host, encoding = fields.get(b"host"), fields.get(b"transfer-encoding")
        if encoding is not None and (encoding.lower() != b"chunked" or version == "1.0"):
            return Refusal(400, "Transfer-Encoding can only be chunked, and only in HTTP/1.1")
        if (host is None and version == "1.1") or (host is not None and not _HOST.fullmatch(host)):
            return Refusal(400, "a request has a Host header with a valid host")
        if self.parser.should_upgrade():  # its body, if it has one, would be parsed as the next request
            return Refusal(400, "this server does not upgrade: send HTTP/1.1 without an Upgrade header")
        if (not self.url.startswith(b"/") and self.url != b"*") or b"#" in self.url:
            return Refusal(400, "the request target must be a path: this server is no proxy")
        return None

    @property
    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    @property
    def _answering(self) -> bool:
        """Whether a response is on its way, or owed for a request that came whole, before the bytes that come now."""
        cycle = self.cycle
        begun = cycle is not None and not cycle.response_complete
        return begun and (cycle.response_started or not cycle.more_body or bool(self.pipeline))

    @property
    def _waits_for_client(self) -> bool:
        """Whether it is the client's turn: a request is under way, or none was begun."""
        return not self._whole or self.cycle is None or self.cycle.response_complete

    def _start_clock(self) -> None:
        self._received = 0
        self._clock = self.loop.call_later(self.limits.patience_s, self._too_slow)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _too_slow(self) -> None:
        if self._answering or self._received >= MIN_BYTES_PER_S * self.limits.patience_s:
            self._start_clock()
        elif self._idle:
            self.transport.close()
        else:
            self._refuse(Refusal(408, f"the request comes too slowly: fewer than {MIN_BYTES_PER_S} bytes a second"))

    def _refuse(self, refusal: Refusal) -> None:
        """Answer and hang up. Where another response is due first, only hang up: an answer would be taken for it."""
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        self._stop_clock()
        if self._answering:
            self.transport.close()
            return
        if self.cycle is not None and not self.cycle.response_complete:  # the application waits for a body
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.write(_response(refusal))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self.loop.call_later(_LINGER_S, self.transport.close)


def _times(name: bytes, headers: list[tuple[bytes, bytes]]) -> int:
    return sum(1 for other, _ in headers if other == name)


def strict_connection(limits: ConnectionLimits) -> type[asyncio.Protocol]:
    """The protocol class with its limits, for `uvicorn.Config`, which makes one a connection."""
    return type("LimitedConnection", (StrictConnection,), {"limits": limits})


def _response(refusal: Refusal) -> bytes:
    status = HTTPStatus(refusal.status)
    kind = "server_error" if status >= 500 else "invalid_request_error"
    body = msgspec.json.encode(plain_error(str(refusal), kind, code=status.phrase.lower().replace(" ", "_")))
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
