"""The `Backend` over HTTP: any engine that speaks vLLM's dialect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from gateway.adapters.probe import probe_engine
from router.domain import EngineInfo
from router.errors import BackendError, BackendProtocolError, BackendRejected, BackendTimeout, BackendUnavailable
from router.ports import Draw

HEALTH_TIMEOUT_S = 2.0
LOAD_TIMEOUT_S = 60.0
# Below uvicorn's keep-alive of 5 s, so that a pooled connection is not used just as the engine closes it.
KEEPALIVE_S = 4.0
MAX_EVENT_BYTES = 16 * 1024 * 1024


class VllmBackend:
    """One engine. Use as an async context manager, or call `close`."""

    def __init__(self, url: str, *, api_key: str | None = None, connect_timeout_s: float = 5.0) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        self._headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._routes: dict[str, URL] = {}
        self._connect_timeout_s = connect_timeout_s
        self._opened: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> VllmBackend:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection pool."""
        if self._opened is not None:
            await self._opened.close()
            self._opened = None

    async def complete(self, draw: Draw) -> Mapping[str, Any]:
        """The whole chat completion object, as the engine returned it."""
        async with self.request("POST", "/v1/chat/completions", chat_body(draw), draw.timeout_s) as response:
            return await _json_object(response)

    def stream(self, draw: Draw) -> AsyncGenerator[Mapping[str, Any]]:
        """The chunks of a chat completion. Leaving early closes the connection, which cancels the samples upstream."""
        body = chat_body(draw) | {"stream": True, "stream_options": {"include_usage": True}}
        return self.stream_json("/v1/chat/completions", body, draw.timeout_s)

    async def load_policy(self, name: str, folder: Path) -> None:
        """Load a LoRA adapter under `name`, unless the engine serves one of that name.

        Raises `BackendUnavailable` with the engine's reason when it refuses, and any other `BackendError`.
        """
        try:
            body = {"lora_name": name, "lora_path": str(folder)}
            async with self.request("POST", "/v1/load_lora_adapter", body, LOAD_TIMEOUT_S):
                return
        except BackendRejected as refused:  # another gateway may have been first
            cards = (await self.get_json("/v1/models")).get("data") or []
            if not any(card.get("id") == name for card in cards):
                raise BackendUnavailable(f"the engine cannot load {name}: {_one_line(refused)}") from refused

    async def probe(self) -> EngineInfo:
        """What the engine is and can do; draws a few single tokens."""
        return await probe_engine(self)

    async def alive(self) -> bool:
        """Whether the engine answers its health check."""
        try:
            async with self.request("GET", "/health", None, HEALTH_TIMEOUT_S):
                return True
        except BackendError:
            return False

    @property
    def degraded(self) -> str | None:
        """Nothing: one engine answers, or it does not."""
        return None

    async def get_json(self, path: str) -> Mapping[str, Any]:
        """A JSON object from one of the engine's GET routes."""
        async with self.request("GET", path, None, self._connect_timeout_s) as response:
            return await _json_object(response)

    async def post_json(self, path: str, body: Mapping[str, Any], timeout_s: float) -> Mapping[str, Any]:
        """The JSON object that one of the engine's POST routes answers."""
        async with self.request("POST", path, body, timeout_s) as response:
            return await _json_object(response)

    async def stream_json(
        self, path: str, body: Mapping[str, Any], timeout_s: float
    ) -> AsyncGenerator[Mapping[str, Any]]:
        """The JSON objects that one of the engine's POST routes streams, up to its `[DONE]`."""
        async with self.request("POST", path, body, timeout_s) as response:
            done, events = False, _Events()
            # By network chunk, one await for many events; past the end, so that the connection can be used again.
            while received := await response.content.readany():
                for data in events.feed(received):
                    if done or data == b"[DONE]":
                        done = True
                        continue
                    chunk = _decode(data)
                    if "error" in chunk:
                        raise _rejected(response.status, chunk)
                    yield chunk
        if not done:
            raise BackendProtocolError("the engine closed its stream before [DONE]")

    @asynccontextmanager
    async def request(
        self, method: str, path: str, body: Mapping[str, Any] | None, timeout_s: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request; the response has a status below 400. Every failure is a `BackendError`."""
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=self._connect_timeout_s)
        try:
            async with self._session().request(
                method, self._route(path), data=_encode(body), timeout=timeout
            ) as response:
                if response.status >= 400:
                    retry_after = response.headers.get("Retry-After")
                    raise _rejected(response.status, _decode(await response.read()), retry_after)
                yield response
        except aiohttp.ConnectionTimeoutError as error:
            raise BackendUnavailable(f"the engine at {self.url} accepts no connection") from error
        except TimeoutError as error:  # before the next clause: aiohttp's timeouts are of both families
            raise BackendTimeout(f"the engine at {self.url} did not answer within {timeout_s:.1f} s") from error
        except (aiohttp.ClientError, ConnectionError) as error:
            raise BackendUnavailable(f"the engine at {self.url} is unreachable: {_one_line(error)}") from error

    def _session(self) -> aiohttp.ClientSession:
        """Opened on first use, since a session belongs to the event loop it is made in."""
        if self._opened is None:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_S)
            self._opened = aiohttp.ClientSession(
                connector=connector, headers=self._headers, cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._opened

    def _route(self, path: str) -> URL:
        """The URL of one of the engine's few routes, parsed once."""
        if (url := self._routes.get(path)) is None:
            url = self._routes[path] = URL(self.url + path)
        return url


def chat_body(draw: Draw) -> dict[str, Any]:
    """The upstream request, built from what was admitted and never forwarded; asks for ids and log-probabilities."""
    body: dict[str, Any] = {
        "model": draw.model,
        "messages": list(draw.prompt.messages),
        **draw.prompt.options,
        **draw.sampling.fields(),
        "n": draw.n,
        "logprobs": True,
        "return_token_ids": True,
    }
    if draw.cache_salt is not None:
        body["cache_salt"] = draw.cache_salt
    return body


class _Events:
    """Splits a stream of server-sent events, fed by network chunk, into the data of each."""

    def __init__(self) -> None:
        self._begun = b""  # an event of which the end has not come

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of every event that ended with this chunk. Raises `BackendProtocolError` for one without an end."""
        data = self._begun + chunk
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n")  # together: a chunk may end between the two
        *events, self._begun = data.split(b"\n\n")
        if len(self._begun) > MAX_EVENT_BYTES:
            raise BackendProtocolError("the engine sent an event without an end")
        return [data for event in events if (data := _data_of(event))]


def _data_of(event: bytes) -> bytes:
    if event.startswith(b"data: ") and b"\n" not in event:  # as engines write them
        return event[6:]
    return b"\n".join([line[5:].lstrip() for line in event.split(b"\n") if line.startswith(b"data:")])


async def _json_object(response: aiohttp.ClientResponse) -> Mapping[str, Any]:
    return _decode(await response.read())


def _encode(body: Mapping[str, Any] | None) -> bytes | None:
    return None if body is None else msgspec.json.encode(body)


def _decode(data: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BackendProtocolError("the engine answered something that is not JSON") from error
    if not isinstance(value, dict):
        raise BackendProtocolError("the engine answered JSON that is not an object")
    return value


def _rejected(status: int, body: dict[str, Any], retry_after: str | None = None) -> BackendError:
    """The engine's refusal, with its own status: an error event inside a stream carries it as `code`."""
    error = body.get("error")
    if not isinstance(error, dict):
        if not 400 <= status < 500:
            return BackendProtocolError(f"the engine answered status {status} without an error object")
        # A route the engine does not have is refused by its web framework, in a form of its own.
        error = {"message": str(body.get("detail", "refused")), "type": "invalid_request_error", "code": status}
        body = {"error": {**error, "param": None}}
    code = error.get("code")
    if status < 400:
        status = code if isinstance(code, int) and 400 <= code < 600 else 502
    return BackendRejected(str(error.get("message", "refused")), status, body, retry_after)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


async def wait_until_alive(backend: VllmBackend, timeout_s: float) -> bool:
    """Wait for the engine's health check, at most `timeout_s` seconds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while loop.time() < deadline:
        if await backend.alive():
            return True
        await asyncio.sleep(0.2)
    return False
