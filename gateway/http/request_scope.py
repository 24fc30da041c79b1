"""The one ASGI middleware, around everything: a request id on every response, an answer for what a stop cuts off."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets

import msgspec
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.http.drain import Drain
from gateway.http.http_errors import plain_error

REQUEST_ID = "X-Request-Id"
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

_STOPPING = msgspec.json.encode(plain_error("the gateway stops: try again", "server_error", code="stopping"))

_log = logging.getLogger(__name__)


class RequestScope:
    """Takes the client's `X-Request-Id` when it is sane, else makes one; it is at `request.state.request_id`."""

    def __init__(self, app: ASGIApp, drain: Drain | None = None) -> None:
        self._app, self._drain = app, drain or Drain()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = given if _SANE_ID.fullmatch(given) else f"req-{secrets.token_hex(16)}"
        scope.setdefault("state", {})["request_id"] = request_id
        named = (REQUEST_ID.lower().encode(), request_id.encode())
        headers: list[tuple[bytes, bytes]] | None = None  # of the response, once it has started

        async def send_with_id(message: Message) -> None:
            nonlocal headers
            if message["type"] == "http.response.start":
                headers = message["headers"] = [*message["headers"], named]
            await send(message)

        if self._drain.begun and scope["method"] != "GET":  # probes and metrics are answered to the end
            await _stopping()(scope, receive, send_with_id)
            return
        try:
            with self._drain.serving():
                await self._app(scope, receive, send_with_id)
        except asyncio.CancelledError:  # only the server cancels, and only what outlives the drain of its stop
            _log.warning("request %s was cut off: the gateway stops", request_id)
            if headers is None:
                await _stopping()(scope, receive, send_with_id)
            elif Headers(raw=headers).get("content-type", "").startswith("text/event-stream"):
                await send({"type": "http.response.body", "body": b"data: " + _STOPPING + b"\n\ndata: [DONE]\n\n"})


def _stopping() -> Response:
    return Response(_STOPPING, 503, {"Retry-After": "2", "Connection": "close"}, "application/json")
