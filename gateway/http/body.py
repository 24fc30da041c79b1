"""Reading a request's body within bounds, and noticing that the client has gone."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request

from router.errors import PayloadTooLarge

T = TypeVar("T")
_DRAIN_FACTOR = 8  # a refused body is read on up to this many limits, so that the client sees the answer, not a reset
_GRACE_S = 0.01


class ClientGone(Exception):
    """The client closed its connection before the answer."""


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body. Raises `PayloadTooLarge` above `limit` bytes, `ClientGone` when it does not come to its end."""
    parts: list[bytes] = []
    size = 0
    more = True
    while more and size <= _DRAIN_FACTOR * limit:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part, more = message.get("body", b""), message.get("more_body", False)
        size += len(part)
        if size <= limit:
            parts.append(part)
    if size > limit:
        raise PayloadTooLarge(f"the body is larger than the {limit} bytes this gateway accepts")
    return b"".join(parts)


async def until_disconnect(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the client goes away. Raises `ClientGone`."""
    leaving = _Leaving(request)
    try:
        return await work
    finally:
        if leaving.close():  # however the work took it: its result or its error is nobody's any more
            raise ClientGone


class _Leaving:
    """Cancels the running task once its client has closed its connection; the body must have been read.

    It looks from `_GRACE_S` on: what is answered sooner, as from the cache, does not pay for a task that looks.
    """

    def __init__(self, request: Request) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._request, self._task = request, task
        self._looking: asyncio.Task[None] | None = None
        self._left = False
        self._later = asyncio.get_running_loop().call_later(_GRACE_S, self._look)

    def close(self) -> bool:
        """Look no more; whether the client has left, and nobody else cancelled the task meanwhile."""
        self._later.cancel()
        if self._looking is not None:
            self._looking.cancel()
        return self._left and self._task.uncancel() == 0

    def _look(self) -> None:
        self._looking = asyncio.create_task(self._disconnected())

    async def _disconnected(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self._left = True
        self._task.cancel()
