"""The HTTP server of one process: uvicorn, which keeps its port open while it drains, so that probes see it stop."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from gateway.http.connection import ConnectionLimits, strict_connection
from gateway.http.drain import Drain

KEEP_ALIVE_S = 75  # longer than clients and proxies keep an idle connection, so that none is closed as they use it
_CUT_S = 1  # for the last bytes of what ended, before what is left is cut off


class DrainingServer(uvicorn.Server):
    """The first stop signal begins the drain; once it is over the port is closed. Ctrl-C while it drains ends it."""

    def __init__(
        self,
        app: ASGIApp,
        drain: Drain,
        limits: ConnectionLimits,
        on_serving: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="none",
                http=strict_connection(limits),
                ws="none",
                proxy_headers=False,  # nothing here asks who the client is but its key
                timeout_keep_alive=KEEP_ALIVE_S,
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                timeout_graceful_shutdown=_CUT_S,
            )
        )
        self._drain, self._on_serving = drain, on_serving

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Take connections, and say so."""
        await super().startup(sockets)
        if self.started:
            self._on_serving()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin the drain. A repeated SIGTERM changes nothing: a terminal and a parent may both pass a stop on."""
        if self._drain.begun and sig == signal.SIGINT:
            super().handle_exit(sig, frame)
        self._drain.begin()

    async def on_tick(self, counter: int) -> bool:
        """Whether to close the port; asked ten times a second."""
        return await super().on_tick(counter) or self._drain.over
