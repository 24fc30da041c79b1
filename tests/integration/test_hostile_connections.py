"""What a client writes on its socket: framing that two parsers could read differently, heads without end, slowness.

The list is that of `verifiers-security` in docs/security.md; each shape goes to a real `serve` process.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator

import pytest

from tests.support.gateway_process import GatewayProcess
from tests.support.mock_engine import Fault, MockEngine, Script

BODY = json.dumps({"model": "champion", "messages": [{"role": "user", "content": "hostile"}]}).encode()
SIZE = len(BODY)
POST = b"POST /v1/chat/completions HTTP/1.1\r\n"
GET = b"GET /healthz HTTP/1.1\r\n"
HOST = b"Host: localhost\r\n"
LENGTH = b"Content-Length: %d\r\n" % SIZE
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (SIZE, BODY)
PATIENCE_S = 1.0


@pytest.fixture(scope="module")
def engine() -> Iterator[MockEngine]:
    flood = Script(("half and half",), fault=Fault.STALL, padding=12_000_000)
    with MockEngine({"slow": Script(("It is \\boxed{4}",), delay_s=1.0), "unread": flood}) as engine:
        yield engine


@pytest.fixture(scope="module")
def gateway(engine: MockEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    config = f"[server]\nslow_client_s = {PATIENCE_S}\nmax_connections = 20\n"
    with GatewayProcess(tmp_path_factory.mktemp("hostile"), engine.url, config) as gateway:
        gateway.wait_for("/readyz", 200)
        yield gateway
        assert gateway.stop() == 0
    assert "Traceback" not in gateway.output


def connect(gateway: GatewayProcess) -> socket.socket:
    return socket.create_connection(("127.0.0.1", gateway.port), timeout=10)


def received(connection: socket.socket) -> bytes:
    """All that comes until the gateway closes."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def exchange(gateway: GatewayProcess, *parts: bytes) -> bytes:
    """All that comes back for bytes sent as they are, part by part, until the gateway closes."""
    with connect(gateway) as connection:
        for part in parts:
            connection.sendall(part)
            time.sleep(0.05 if len(parts) > 1 else 0)
        return received(connection)


def statuses(answer: bytes) -> list[int]:
    """The status of every response in what came back."""
    return [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:] if part[:3].isdigit()]


REFUSED = {
    # length and encoding together
    "length, then encoding": POST + HOST + LENGTH + CHUNKED + b"\r\n" + CHUNKS,
    "encoding, then length": POST + HOST + CHUNKED + LENGTH + b"\r\n" + CHUNKS,
    # lengths
    "two lengths": POST + HOST + LENGTH + b"Content-Length: 5\r\n\r\n" + BODY,
    "the same length twice": POST + HOST + LENGTH + LENGTH + b"\r\n" + BODY,
    "a list of lengths": POST + HOST + b"Content-Length: %d, %d\r\n\r\n" % (SIZE, SIZE) + BODY,
    "a negative length": POST + HOST + b"Content-Length: -5\r\n\r\n" + BODY,
    "a length with a plus": POST + HOST + b"Content-Length: +5\r\n\r\n" + BODY,
    "a length in hex": POST + HOST + b"Content-Length: 0x40\r\n\r\n" + BODY,
    "a length beyond 64 bits": POST + HOST + b"Content-Length: 99999999999999999999999\r\n\r\n" + BODY,
    "an empty length": POST + HOST + b"Content-Length: \r\n\r\n" + BODY,
    # encodings
    "xchunked": POST + HOST + b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNKS,
    "identity": POST + HOST + b"Transfer-Encoding: identity\r\n\r\n" + BODY,
    "gzip, chunked": POST + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS,
    "chunked, identity": POST + HOST + b"Transfer-Encoding: chunked, identity\r\n\r\n" + CHUNKS,
    "chunked twice": POST + HOST + CHUNKED + CHUNKED + b"\r\n" + CHUNKS,
    "a vertical tab": POST + HOST + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + CHUNKS,
    "in quotes": POST + HOST + b'Transfer-Encoding: "chunked"\r\n\r\n' + CHUNKS,
    "chunked in HTTP/1.0": POST.replace(b"1.1", b"1.0") + HOST + CHUNKED + b"\r\n" + CHUNKS,
    # chunks
    "a chunk size beyond 64 bits": POST + HOST + CHUNKED + b"\r\n1%016x\r\n" % SIZE + BODY + b"\r\n0\r\n\r\n",
    "a chunk size with 0x": POST + HOST + CHUNKED + b"\r\n0x%x\r\n" % SIZE + BODY + b"\r\n0\r\n\r\n",
    "a negative chunk size": POST + HOST + CHUNKED + b"\r\n-%x\r\n" % SIZE + BODY + b"\r\n0\r\n\r\n",
    "a chunk size and a space": POST + HOST + CHUNKED + b"\r\n%x \r\n" % SIZE + BODY + b"\r\n0\r\n\r\n",
    "chunks that end in LF": POST + HOST + CHUNKED + b"\r\n%x\n" % SIZE + BODY + b"\n0\n\n",
    "an extension that ends in LF": POST + HOST + CHUNKED + b"\r\n%x;a\n" % SIZE + BODY + b"\r\n0\r\n\r\n",
    "a chunk longer than its size": POST + HOST + CHUNKED + b"\r\n%x\r\n" % SIZE + BODY + b"XX0\r\n\r\n",
    "a length in the trailer": POST + HOST + CHUNKED + b"\r\n" + CHUNKS[:-2] + b"Content-Length: 5\r\n\r\n",
    # lines and names
    "a space before the colon": POST + HOST + b"Content-Length : %d\r\n\r\n" % SIZE + BODY,
    "a space before the name": POST + b" " + HOST + LENGTH + b"\r\n" + BODY,
    "lines that end in LF": (POST + HOST + LENGTH + b"\r\n").replace(b"\r\n", b"\n") + BODY,
    "LF inside a value": POST + b"Host: localhost\nX: y\r\n" + LENGTH + b"\r\n" + BODY,
    "CR inside a value": POST + b"Host: localhost\rX: y\r\n" + LENGTH + b"\r\n" + BODY,
    "CR CR LF": POST + HOST + b"Content-Length: %d\r\r\n\r\n" % SIZE + BODY,
    "NUL inside a value": POST + HOST + b"X: a\x00b\r\n" + LENGTH + b"\r\n" + BODY,
    "a folded line": POST + HOST + b"X: a\r\n b\r\n" + LENGTH + b"\r\n" + BODY,
    "a folded encoding": POST + HOST + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + CHUNKS,
    "no name": GET + HOST + b": a\r\n\r\n",
    "no colon": GET + HOST + b"Xabc\r\n\r\n",
    # host and target
    "two hosts": GET + HOST + b"Host: evil.example\r\n\r\n",
    "the same host twice": GET + HOST + HOST + b"\r\n",
    "no host": GET + b"\r\n",
    "an empty host": GET + b"Host:\r\n\r\n",
    "a host with a path": GET + b"Host: localhost/x\r\n\r\n",
    "a host with a user": GET + b"Host: a@localhost\r\n\r\n",
    "an absolute target": b"GET http://evil.example/healthz HTTP/1.1\r\n" + HOST + b"\r\n",
    "an authority as target": b"CONNECT evil.example:80 HTTP/1.1\r\n" + HOST + b"\r\n",
    "a fragment in the target": b"GET /v1/models#/healthz HTTP/1.1\r\n" + HOST + b"\r\n",
    "a control character in the target": b"GET /heal\x01thz HTTP/1.1\r\n" + HOST + b"\r\n",
    "a method that is none": b"FOO /healthz HTTP/1.1\r\n" + HOST + b"\r\n",
    "HTTP/1.2": b"GET /healthz HTTP/1.2\r\n" + HOST + b"\r\n",
    "HTTP/2 by prior knowledge": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    # upgrades
    "an upgrade": GET + HOST + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    "a web socket": GET + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n",
}
TOO_LARGE = {
    "one header": GET + HOST + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
    "one header without end": GET + HOST + b"X: " + b"a" * 10_000_000,
    "just over the limit": GET + HOST + b"X: " + b"a" * 16_384 + b"\r\n\r\n",
    "many headers": GET + HOST + b"".join(b"X-%d: a\r\n" % i for i in range(100)) + b"\r\n",
    "a target": b"GET /healthz?" + b"a" * 50_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "a target without end": b"GET /healthz?" + b"a" * 10_000_000,
    "a chunk's extension": POST + HOST + CHUNKED + b"\r\n%x;a=" % SIZE + b"x" * 2_000_000 + b"\r\n" + BODY,
    "a trailer": POST + HOST + CHUNKED + b"\r\n" + CHUNKS[:-2] + b"X: " + b"y" * 2_000_000,
    "empty lines": b"\r\n" * 500_000,
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_a_request_that_could_be_read_in_two_ways(gateway: GatewayProcess, engine: MockEngine, data: bytes) -> None:
    """One 400 in the usual shape, the connection closed, and the engine asked nothing."""
    answer = exchange(gateway, data + GET + HOST + b"\r\n")
    assert statuses(answer) == [400], answer
    assert b"connection: close" in answer
    error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    assert error["type"] == "invalid_request_error" and error["message"] and error.keys() >= {"param", "code"}
    assert engine.chats("hostile") == []


@pytest.mark.parametrize("data", TOO_LARGE.values(), ids=TOO_LARGE)
def test_what_is_sent_without_end(gateway: GatewayProcess, data: bytes) -> None:
    assert statuses(exchange(gateway, data)) == [431]


@pytest.mark.parametrize("version", [b"GET /healthz\r\n\r\n", b"GET /healthz HTTP/2.0\r\n" + HOST + b"\r\n"])
def test_another_version_of_http(gateway: GatewayProcess, version: bytes) -> None:
    assert statuses(exchange(gateway, version)) == [505]


def test_what_is_served(gateway: GatewayProcess) -> None:
    """The same heads without the fault, up to the limit: 431 and 400 above mean what they say."""
    close = b"Connection: close\r\n"
    for head in (
        GET + HOST + close + b"X: " + b"a" * 16_000 + b"\r\n\r\n",
        GET + HOST + close + b"".join(b"X-%d: a\r\n" % i for i in range(98)) + b"\r\n",
        GET + close + b"Host: [::1]:8000\r\n\r\n",
        b"GET /healthz HTTP/1.0\r\n\r\n",
    ):
        assert statuses(exchange(gateway, head)) == [200]
    chunks = b"%x;name=value\r\n" % 10 + BODY[:10] + b"\r\n%x\r\n" % (SIZE - 10) + BODY[10:] + b"\r\n0\r\n\r\n"
    chat = chunks.replace(b"hostile", b"benign!")
    assert statuses(exchange(gateway, POST + HOST + close + b"Transfer-Encoding: Chunked\r\n\r\n" + chat)) == [200]


def test_the_body_of_an_upgrade_is_never_a_request(gateway: GatewayProcess) -> None:
    """uvicorn drops such a body from its parser, so that its bytes would be read as the next request."""
    smuggled = GET + HOST + b"\r\n"
    head = POST + HOST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: %d\r\n\r\n" % len(smuggled)
    assert statuses(exchange(gateway, head, smuggled)) == [400]


def test_an_error_is_never_taken_for_the_answer_before_it(gateway: GatewayProcess, engine: MockEngine) -> None:
    """Two requests on one connection, the second malformed while the first is answered: no 400 in its place."""
    slow = BODY.replace(b"hostile", b"slow hostility")
    first = POST + HOST + b"Content-Length: %d\r\n\r\n" % len(slow) + slow
    assert statuses(exchange(gateway, first + b"garbage\r\n\r\n")) in ([], [200])


def test_trailers_do_not_become_headers(gateway: GatewayProcess) -> None:
    benign = BODY.replace(b"hostile", b"trailer")
    head = POST + HOST + b"Connection: close\r\n" + CHUNKED + b"\r\n%x\r\n" % len(benign) + benign + b"\r\n0\r\n"
    assert statuses(exchange(gateway, head, b"X-Verification-Profile: nope\r\n\r\n")) == [200]


# Slow clients


def test_a_connection_that_says_nothing_is_closed(gateway: GatewayProcess) -> None:
    started = time.monotonic()
    assert exchange(gateway) == b""
    assert PATIENCE_S / 2 < time.monotonic() - started < PATIENCE_S + 5


@pytest.mark.parametrize(
    "head",
    [GET + b"Host: lo", POST + HOST + b"Content-Length: 10000\r\n\r\n{", POST + HOST + CHUNKED + b"\r\n500\r\n{"],
    ids=["head", "body", "chunk"],
)
def test_a_slow_request_is_cut_off(gateway: GatewayProcess, head: bytes) -> None:
    """A few bytes at a time keep a connection open no longer than none."""
    with connect(gateway) as connection:
        connection.sendall(head)
        connection.settimeout(0.1)
        answer, started = b"", time.monotonic()
        while time.monotonic() - started < PATIENCE_S + 5:
            try:
                connection.sendall(b"x")
                if not (part := connection.recv(65536)):
                    break
                answer += part
            except TimeoutError:
                continue
    assert statuses(answer) == [408] and time.monotonic() - started < PATIENCE_S + 4


def test_a_request_that_comes_steadily_is_not_slow(gateway: GatewayProcess) -> None:
    padded = json.dumps({**json.loads(BODY), "user": "x" * 8000}).encode().replace(b"hostile", b"steady!")
    head = POST + HOST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(padded)
    parts = [padded[at : at + 1500] for at in range(0, len(padded), 1500)]
    with connect(gateway) as connection:
        connection.sendall(head)
        for part in parts:
            connection.sendall(part)
            time.sleep(0.4)
        assert statuses(received(connection)) == [200]


def test_a_client_that_does_not_read_is_cut_off(gateway: GatewayProcess, engine: MockEngine) -> None:
    body = json.dumps({**json.loads(BODY), "stream": True}).encode().replace(b"hostile", b"unread!")
    with connect(gateway) as connection:
        connection.sendall(POST + HOST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert connection.recv(1024).startswith(b"HTTP/1.1 200")  # and nothing after it
        started = time.monotonic()
        while engine.running:
            assert time.monotonic() - started < 15, "the samples of a client that does not read go on"
            time.sleep(0.05)
        assert time.monotonic() - started > PATIENCE_S / 2


def test_connections_have_a_budget(gateway: GatewayProcess) -> None:
    held = [connect(gateway) for _ in range(20)]
    try:
        time.sleep(0.2)
        assert statuses(exchange(gateway)) == [503]
    finally:
        for connection in held:
            connection.close()
    gateway.wait_for("/healthz", 200)


# What is never sent on


def test_nothing_of_the_clients_head_reaches_the_engine(gateway: GatewayProcess, engine: MockEngine) -> None:
    marked = BODY.replace(b"hostile", b"hop-by-hop")
    sent = {
        "Authorization": "Bearer of-the-client",
        "Cookie": "session=1",
        "Connection": "close, X-Hop",
        "X-Hop": "1",
        "TE": "trailers",
        "Proxy-Authorization": "Basic eDp5",
        "X-Forwarded-For": "10.0.0.1",
        "X-Forwarded-Host": "evil.example",
        "Forwarded": "for=10.0.0.1",
        "X-Real-IP": "10.0.0.1",
        "Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items()).encode()
    answer = exchange(gateway, POST + HOST + b"Content-Length: %d\r\n" % len(marked) + lines + b"\r\n" + marked)
    assert statuses(answer) == [200]
    [headers] = [h for h, (_, body) in zip(engine.headers, engine.requests, strict=True) if "hop-by-hop" in str(body)]
    assert headers.keys() <= {"host", "accept", "accept-encoding", "user-agent", "content-length", "content-type"}
