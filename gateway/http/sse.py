"""A streamed answer: real tokens on the single path, comments while a voted answer is checked, then the answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext, suppress
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from gateway.answer import Answer, Prepared
from gateway.http import render
from gateway.http.body import ClientGone, until_disconnect
from gateway.http.http_errors import error_body
from gateway.service import AnswerService
from router.errors import ThinkTwiceError

KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"

Item = Mapping[str, Any] | Answer | None  # a chunk, the settled answer, or None for a keep-alive


def event(data: Mapping[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + msgspec.json.encode(data) + b"\n\n"


def items(service: AnswerService, prepared: Prepared, keepalive_s: float) -> AsyncGenerator[Item]:
    """What there is to send, as it comes."""
    return service.stream_live(prepared) if prepared.live else _awaited(service, prepared, keepalive_s)


async def _awaited(service: AnswerService, prepared: Prepared, keepalive_s: float) -> AsyncGenerator[Item]:
    """The settled answer, and None each `keepalive_s` seconds until then. Closing it cancels the samples."""
    answering = asyncio.create_task(service.answer(prepared))
    try:
        while not (await asyncio.wait({answering}, timeout=keepalive_s))[0]:
            yield None
        yield answering.result()
    finally:
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)  # its error is nobody's once the client has gone


class EventStream:
    """The bytes of a stream whose first item is already here. After its first byte an error can only be an event.

    `settled` says whether the request was counted, as an answer, a refusal or an error: if not, its client has left.
    """

    def __init__(
        self,
        first: Item,
        rest: AsyncGenerator[Item],
        prepared: Prepared,
        on_error: Callable[[ThinkTwiceError], None],
    ) -> None:
        self._first, self._rest, self._prepared, self._on_error = first, rest, prepared, on_error
        self.answer: Answer | None = None
        self._last: Mapping[str, Any] | None = None
        self.settled = False

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        """The events and comments."""
        try:
            if data := self._encode(self._first):
                yield data
            async for item in self._rest:
                if data := self._encode(item):
                    yield data
            if self._last is not None and self._prepared.call.include_usage and self.answer is not None:
                yield event(render.usage_chunk(self._last, self.answer, self._prepared.call))
        except ThinkTwiceError as error:
            self.settled = True
            self._on_error(error)
            yield event(error_body(error))
        yield DONE

    def _encode(self, item: Item) -> bytes:
        """The bytes that show an item; none for one that shows nothing."""
        if item is None:
            return KEEP_ALIVE
        call = self._prepared.call
        if isinstance(item, Answer):
            self.answer, self.settled = item, True
            chunks = [] if self._prepared.live else list(render.answer_chunks(item, call))
            if chunks:
                self._last = chunks[-1]
            return b"".join([event(chunk) for chunk in chunks])
        if self.answer is None:
            if render.shows_nothing(item, call):
                return b""
            self._last = render.live_chunk(item, call)
        else:
            self._last = render.last_live_chunk(item, self.answer, call)
        return event(self._last)


class EventResponse(StreamingResponse):
    """Sends events. However it ends, the generator behind them is closed at once, which cancels its samples."""

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncIterable[bytes],
        source: AsyncGenerator[Any],
        headers: Mapping[str, str] | None = None,
        during: AbstractAsyncContextManager[Any] | None = None,
    ) -> None:
        super().__init__(events, headers=headers)
        self._source, self._during = source, during or nullcontext()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the end, or until the client goes away."""
        async with self._during, aclosing(self._source):
            with suppress(ClientGone):
                await until_disconnect(Request(scope, receive), self.stream_response(send))
