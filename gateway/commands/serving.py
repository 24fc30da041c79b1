"""One serving process: the runtime opened, its requests served until a signal, everything closed again."""

from __future__ import annotations

import asyncio
import gc
import resource
import signal
import socket
from collections.abc import Callable

from router.settings import Settings

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_NEW_OBJECTS = 10_000  # before the collector looks; at Python's 700 it takes 4 % of a busy gateway's time


def serve(settings: Settings, listeners: list[socket.socket], on_serving: Callable[[], None] = lambda: None) -> int:
    """Serve on `listeners` until a signal; 0 when stopped. `on_serving` is called once requests are taken.

    Raises `ThinkTwiceError` when a part of the gateway cannot start.
    """
    import uvloop  # noqa: PLC0415 - keeps `--help` quick

    _allow_open_files()
    return uvloop.run(_serve_until_stopped(settings, listeners, on_serving))


def _allow_open_files() -> None:
    """Take as many open files as the system lets us: a connection is one, and login shells start with 1024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _serve_until_stopped(
    settings: Settings, listeners: list[socket.socket], on_serving: Callable[[], None]
) -> int:
    """Open the runtime, serve, close it. Raises `ThinkTwiceError` when a part of it cannot start."""
    from gateway.bootstrap.runtime import open_runtime  # noqa: PLC0415
    from gateway.http.app import create_app  # noqa: PLC0415
    from gateway.http.connection import ConnectionLimits  # noqa: PLC0415
    from gateway.http.server import DrainingServer  # noqa: PLC0415

    starting, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert starting is not None
    _on_stop(lambda: loop.call_soon_threadsafe(starting.cancel))  # what was started is closed again
    try:
        async with open_runtime(settings) as runtime:
            _on_stop(runtime.drain.begin)  # as the server's own handlers do once it has set them
            limits = ConnectionLimits(settings.server.max_connections, settings.server.slow_client_s)
            server = DrainingServer(create_app(runtime), runtime.drain, limits, on_serving)
            gc.collect()
            gc.set_threshold(_NEW_OBJECTS)
            gc.freeze()  # what start-up made is never garbage: a full collection that walked it would stall the loop
            await server.serve(sockets=listeners)
            return 0 if server.started else 1
    except asyncio.CancelledError:
        return 0  # stopped before it served


def _on_stop(act: Callable[[], object]) -> None:
    """Let a stop signal do `act`. One handler replaces the other with no moment between, in which a stop were lost."""
    for stop in STOP_SIGNALS:
        signal.signal(stop, lambda *_: act())
