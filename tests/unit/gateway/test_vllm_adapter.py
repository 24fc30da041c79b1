"""The adapter against a server that controls every byte: whatever an engine or a network does is one typed error."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import Any, TypeAlias

import pytest

from gateway.adapters.vllm import MAX_EVENT_BYTES, VllmBackend, chat_body, wait_until_alive
from gateway.local.children import free_port
from router.domain import Prompt, Sampling
from router.errors import BackendError, BackendProtocolError, BackendRejected, BackendTimeout, BackendUnavailable
from router.ports import Draw

DRAW = Draw(Prompt(({"role": "user", "content": "hi"},), {"stop": ["x"]}), Sampling(temperature=0.5), "m", n=2)
CHUNKS = [{"choices": [], "text": "naïve ✓ 𝒙"}, {"choices": [], "usage": {"total_tokens": 3}}]
REFUSAL = {"error": {"message": "no such model", "type": "NotFoundError", "param": "model", "code": 404}}
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"

Script: TypeAlias = Callable[["ScriptedServer", asyncio.StreamWriter], Awaitable[None]]


class ScriptedServer:
    """Hands the connection of each request to `script`, which writes bytes and may close it."""

    def __init__(self) -> None:
        self.script: Script = whole(200, {})
        self.requests: list[tuple[str, dict[str, str], Any]] = []  # first line, headers, body
        self.connections = 0
        self.left = asyncio.Event()  # the client closed a connection
        self.url = ""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while not writer.is_closing():
                first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.requests.append((first, headers, json.loads(body) if body else None))
                await self.script(self, writer)
            await writer.wait_closed()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.left.set()
        finally:
            writer.close()


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    scripted = ScriptedServer()
    listener = await asyncio.start_server(scripted.handle, "127.0.0.1", 0)
    scripted.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    yield scripted
    listener.close()
    await listener.wait_closed()


@pytest.fixture
async def backend(server: ScriptedServer) -> AsyncIterator[VllmBackend]:
    async with VllmBackend(server.url) as backend:
        yield backend


def whole(status: int, body: Any, close: bool = False, head: str = "") -> Script:
    """A whole answer; `body` is encoded unless it is bytes. `head` is more of its head, in whole lines."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def script(_: ScriptedServer, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {status} -\r\n{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        if close:
            writer.close()

    return script


def pieces(parts: Iterable[bytes]) -> Script:
    """A stream, each part in a packet of its own; then the connection closes."""

    async def script(_: ScriptedServer, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD)
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.001)
        writer.close()

    return script


async def silence(server: ScriptedServer, writer: asyncio.StreamWriter) -> None:
    """Begin a stream and say nothing more until the client leaves."""
    writer.write(STREAM_HEAD + events(CHUNKS[:1]))


def events(chunks: Iterable[Any], newline: bytes = b"\n") -> bytes:
    data = (chunk if isinstance(chunk, bytes) else json.dumps(chunk, ensure_ascii=False).encode() for chunk in chunks)
    return b"".join(b"data: " + each + 2 * newline for each in data)


async def streamed(backend: VllmBackend) -> list[Any]:
    return [chunk async for chunk in backend.stream(DRAW)]


async def test_the_request_is_built_and_its_answer_returned(server: ScriptedServer) -> None:
    server.script = whole(200, {"choices": []})
    async with VllmBackend(f"{server.url}/v1/", api_key="secret") as backend:
        assert await backend.complete(DRAW) == {"choices": []}
    ((first, headers, body),) = server.requests
    assert (first, headers["authorization"]) == ("POST /v1/chat/completions HTTP/1.1", "Bearer secret")
    assert body == chat_body(DRAW) == {
        "model": "m", "messages": [{"role": "user", "content": "hi"}], "stop": ["x"], "temperature": 0.5, "n": 2,
        "logprobs": True, "return_token_ids": True,
    }  # fmt: skip


def test_only_a_draw_with_a_salt_sends_one() -> None:
    salted = Draw(DRAW.prompt, DRAW.sampling, "m", cache_salt="tenant")
    assert chat_body(salted)["cache_salt"] == "tenant" and "cache_salt" not in chat_body(DRAW)


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
async def test_a_stream_may_be_split_at_any_byte(server: ScriptedServer, backend: VllmBackend, newline: bytes) -> None:
    data = b": comment" + 2 * newline + events([*CHUNKS, b"[DONE]"], newline)
    for position in range(1, len(data)):
        server.script = pieces([data[:position], data[position:]])
        assert await streamed(backend) == CHUNKS, f"split at byte {position}"
    server.script = pieces(data[position : position + 1] for position in range(len(data)))
    assert await streamed(backend) == CHUNKS
    assert server.requests[0][2]["stream_options"] == {"include_usage": True}


async def test_an_event_without_end_is_not_kept_for_ever(server: ScriptedServer, backend: VllmBackend) -> None:
    server.script = pieces([b"data: ", *[b" " * (1 << 20)] * (MAX_EVENT_BYTES // (1 << 20) + 1), b"{}\n\n"])
    with pytest.raises(BackendProtocolError, match="without an end"):
        await streamed(backend)


async def test_when_an_engine_wants_to_be_asked_again_is_kept(server: ScriptedServer, backend: VllmBackend) -> None:
    server.script = whole(429, REFUSAL, head="Retry-After: 7\r\n")
    with pytest.raises(BackendRejected) as caught:
        await backend.complete(DRAW)
    assert (caught.value.status, caught.value.retry_after) == (429, "7")


@pytest.mark.parametrize(("code", "status"), [(400, 400), (503, 503), ("oops", 502), (None, 502), (42, 502)])
async def test_an_error_in_a_stream_keeps_its_status(
    server: ScriptedServer, backend: VllmBackend, code: Any, status: int
) -> None:
    event = {"error": {"message": "it broke", "code": code}}
    server.script = pieces([events([CHUNKS[0], event, b"[DONE]"])])
    seen = []
    with pytest.raises(BackendRejected, match="it broke") as caught:
        async for chunk in backend.stream(DRAW):
            seen.append(chunk)
    assert (seen, caught.value.status, caught.value.body) == (CHUNKS[:1], status, event)


@pytest.mark.parametrize(
    ("tail", "why"),
    [
        (b"", r"before \[DONE\]"),
        (b'data: {"choi', r"before \[DONE\]"),
        (b"data: <html>\n\n", "not JSON"),
        (b"data: [1]\n\n", "not an object"),
        (b"data: \xff\n\n", "not JSON"),
        (b"data: " + 100_000 * b"[" + b"\n\n", "not JSON"),
    ],
    ids=["cut", "cut inside an event", "html", "list", "not UTF-8", "deep"],
)
async def test_a_stream_that_is_not_the_protocol(
    server: ScriptedServer, backend: VllmBackend, tail: bytes, why: str
) -> None:
    server.script = pieces([events(CHUNKS) + tail])
    with pytest.raises(BackendProtocolError, match=why):
        await streamed(backend)


async def test_a_stream_whose_connection_breaks(server: ScriptedServer, backend: VllmBackend) -> None:
    async def script(_: ScriptedServer, writer: asyncio.StreamWriter) -> None:
        data = events(CHUNKS)
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head + f"{len(data):x}\r\n".encode() + data + b"\r\n")
        writer.close()

    server.script = script
    with pytest.raises(BackendUnavailable, match="unreachable"):
        await streamed(backend)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, b"<html>", BackendProtocolError),
        (200, b"", BackendProtocolError),
        (200, b"[]", BackendProtocolError),
        (500, b"Internal Server Error", BackendProtocolError),
        (502, b"", BackendProtocolError),
        (500, {"error": "a string"}, BackendProtocolError),
        (404, REFUSAL, BackendRejected),
    ],
)
async def test_an_answer_is_an_object_or_one_typed_error(
    server: ScriptedServer, backend: VllmBackend, status: int, body: Any, kind: type[BackendError]
) -> None:
    server.script = whole(status, body)
    for call in (backend.complete(DRAW), streamed(backend)):
        with pytest.raises(kind) as caught:
            await call
        assert "\n" not in str(caught.value) and str(caught.value)
        if isinstance(caught.value, BackendRejected):
            assert (caught.value.status, caught.value.body) == (status, REFUSAL)


async def test_a_slow_engine_is_a_timeout_and_is_left(server: ScriptedServer, backend: VllmBackend) -> None:
    server.script = silence
    quick = Draw(DRAW.prompt, DRAW.sampling, "m", timeout_s=0.1)
    with pytest.raises(BackendTimeout, match=r"within 0\.1 s"):
        await backend.complete(quick)
    async with asyncio.timeout(30):
        await server.left.wait()
    server.left.clear()
    with pytest.raises(BackendTimeout):
        async for _ in backend.stream(quick):
            pass
    async with asyncio.timeout(30):
        await server.left.wait()


async def test_leaving_a_stream_closes_the_connection(server: ScriptedServer, backend: VllmBackend) -> None:
    server.script = silence
    async with aclosing(backend.stream(DRAW)) as chunks:
        assert await anext(chunks) == CHUNKS[0]
        assert not server.left.is_set()
    async with asyncio.timeout(30):
        await server.left.wait()


async def test_cancelling_a_call_closes_the_connection(server: ScriptedServer, backend: VllmBackend) -> None:
    server.script = silence
    call = asyncio.create_task(streamed(backend))
    while not server.requests:
        await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    async with asyncio.timeout(30):
        await server.left.wait()


async def test_a_port_that_nobody_listens_on_is_unavailable() -> None:
    async with VllmBackend(f"http://127.0.0.1:{free_port()}") as backend:
        for call in (backend.complete(DRAW), streamed(backend), backend.get_json("/v1/models"), backend.probe()):
            with pytest.raises(BackendUnavailable, match="unreachable"):
                await call
        assert not await backend.alive()
        assert not await wait_until_alive(backend, 0.1)


async def test_a_connection_that_the_engine_closed_is_not_used_again(
    server: ScriptedServer, backend: VllmBackend
) -> None:
    server.script = whole(200, {}, close=True)
    for _ in range(3):
        assert await backend.complete(DRAW) == {}
        await asyncio.sleep(0.01)
    assert server.connections == 3


async def test_connections_are_kept_and_one_that_closes_under_a_request_is_unavailable(
    server: ScriptedServer, backend: VllmBackend
) -> None:
    async def hang_up(_: ScriptedServer, writer: asyncio.StreamWriter) -> None:
        writer.close()

    assert [await backend.complete(DRAW) for _ in range(2)] == [{}, {}]
    server.script = hang_up
    with pytest.raises(BackendUnavailable):
        await backend.complete(DRAW)
    assert server.connections == 1


@pytest.mark.parametrize(("status", "alive"), [(200, True), (503, False)])
async def test_health(server: ScriptedServer, backend: VllmBackend, status: int, alive: bool) -> None:
    server.script = whole(status, b"")
    assert await backend.alive() is alive
    assert await wait_until_alive(backend, 0.1) is alive
