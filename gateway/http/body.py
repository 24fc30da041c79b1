"""Reading a request's body within bounds, and noticing that the client has gone."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from router.errors import PayloadTooLarge

T = TypeVar("T")
_DRAIN_FACTOR = 8  # a refused body is read on up to this many limits, so that the client sees the answer, not a reset


class ClientGone(Exception):
    """The client closed its connection before the answer."""


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body. Raises `PayloadTooLarge` above `limit` bytes, `ClientGone` when it does not come to its end."""
    parts: list[bytes] = []
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
            if size <= limit:
                parts.append(part)
            elif size > _DRAIN_FACTOR * limit:
                break
    except ClientDisconnect as gone:
        raise ClientGone from gone
    if size > limit:
        raise PayloadTooLarge(f"the body is larger than the {limit} bytes this gateway accepts")
    return b"".join(parts)


async def until_disconnect(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the client goes away. Raises `ClientGone`."""
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)  # what fails now is nobody's any more


async def _disconnected(request: Request) -> None:
    """Returns when the client has closed its connection; the body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
