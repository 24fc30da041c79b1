"""A load generator that costs little itself: canned request bytes over raw connections, times of every answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import httptools

Request = bytes


@dataclass(frozen=True, slots=True)
class Timed:
    """One answer: its status, its time to the end and to its first content, in seconds, and its events."""

    status: int
    whole_s: float
    first_s: float | None = None
    events: int = 0


@dataclass(slots=True)
class Load:
    """What one run of requests measured; `wall_s` is that of the whole run."""

    answers: list[Timed] = field(default_factory=list)
    wall_s: float = 0.0

    @property
    def failed(self) -> int:
        """Answers without a status of 200."""
        return sum(answer.status != 200 for answer in self.answers)


def post(url: str, body: bytes, headers: Mapping[str, str] | None = None) -> Request:
    """The bytes of a POST of JSON to `url`."""
    parts = urlsplit(url)
    lines = [f"POST {parts.path} HTTP/1.1", f"Host: {parts.netloc}", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def get(url: str) -> Request:
    """The bytes of a GET of `url`."""
    parts = urlsplit(url)
    return f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()


class _Client(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self._answered: asyncio.Future[Timed] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is not derived from it

    def connection_lost(self, error: Exception | None) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(error or ConnectionResetError("closed before the answer's end"))

    async def ask(self, request: Request) -> Timed:
        """Send a request and wait for its answer. Raises `ConnectionError` when the connection is cut."""
        self._answered = asyncio.get_running_loop().create_future()
        self._parser = httptools.HttpResponseParser(self)
        self._events, self._first = 0, 0.0
        self._began = time.perf_counter()
        self.transport.write(request)
        return await self._answered

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        # The engine's role chunk has an empty content: the first token is the first event with a word in it.
        if not self._first and b'" word' in body:
            self._first = time.perf_counter()
        self._events += body.count(b"data: ")

    def on_message_complete(self) -> None:
        assert self._answered is not None
        first_s = self._first - self._began if self._first else None
        took_s = time.perf_counter() - self._began
        self._answered.set_result(Timed(self._parser.get_status_code(), took_s, first_s, self._events))


async def drive(url: str, requests: Sequence[Request], count: int, concurrency: int) -> Load:
    """Send `count` requests, taken from `requests` in turn, over `concurrency` connections.

    Raises `OSError` when a connection is refused or cut.
    """
    parts = urlsplit(url)
    loop, load, numbers = asyncio.get_running_loop(), Load(), iter(range(count))
    clients = [
        (await loop.create_connection(_Client, parts.hostname, parts.port))[1] for _ in range(min(concurrency, count))
    ]

    async def keep_asking(client: _Client) -> None:
        for number in numbers:
            load.answers.append(await client.ask(requests[number % len(requests)]))

    began = time.perf_counter()
    try:
        await asyncio.gather(*(keep_asking(client) for client in clients))
        load.wall_s = time.perf_counter() - began
    finally:
        for client in clients:
            client.transport.close()
    return load
