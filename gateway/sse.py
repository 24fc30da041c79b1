"""A streamed answer: real tokens on the single path, comments while a voted answer is checked, then the answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import msgspec

from gateway import render
from gateway.answer import Answer, Prepared
from gateway.http_errors import error_body
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
        await asyncio.wait({answering})


async def encode(first: Item, rest: AsyncGenerator[Item], prepared: Prepared) -> AsyncGenerator[bytes]:
    """The bytes of a stream whose first item is already here. After its first byte an error can only be an event."""
    answer: Answer | None = None
    call = prepared.call
    try:
        async with aclosing(rest):
            async for item in _chain(first, rest):
                match item:
                    case None:
                        yield KEEP_ALIVE
                    case Answer():
                        answer = item
                        for chunk in () if prepared.live else render.answer_chunks(answer, call):
                            yield event(chunk)
                    case _ if answer is None:
                        yield event(render.live_chunk(item, call))
                    case _:
                        yield event(render.last_live_chunk(item, answer, call))
        if answer is not None and call.include_usage:
            yield event(render.usage_chunk(answer, call))
    except ThinkTwiceError as error:
        yield event(error_body(error))
    yield DONE


async def _chain(first: Item, rest: AsyncGenerator[Item]) -> AsyncGenerator[Item]:
    yield first
    async for item in rest:
        yield item
