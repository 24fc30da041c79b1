"""`thinktwice serve`: the gateway, one process a worker, each with its own socket on the same port."""

from __future__ import annotations

import argparse
import asyncio
import gc
import ipaddress
import logging
import multiprocessing
import os
import resource
import signal
import socket
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from router.errors import ConfigError, ThinkTwiceError
from router.settings import Settings, load_settings

_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser("serve", help="run the gateway in front of an engine")
    parser.add_argument("--config", type=Path, help="configuration file (default: ./thinktwice.toml when it is there)")
    parser.add_argument("--host", help="address to bind (default 127.0.0.1)")
    parser.add_argument("--port", type=int, help="TCP port (default 8000)")
    parser.add_argument("--workers", type=int, help="serving processes (default 1)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until a signal. Exit codes: 0 stopped, 1 a part did not start, 2 unusable configuration."""
    given = {name: getattr(args, name) for name in ("host", "port", "workers") if getattr(args, name) is not None}
    settings = load_settings(args.config, {"server": given} if given else None)
    logging.basicConfig(level=logging.INFO, format=_LOG_FORMAT)
    _check(settings)
    sockets = _bind(settings)
    if settings.server.workers == 1:
        return _serve(settings, sockets[0])
    return _supervise(settings, sockets)


def _check(settings: Settings) -> None:
    """Find what cannot work before any socket is bound. Raises `ConfigError`."""
    from gateway.bootstrap import check_settings  # noqa: PLC0415 - keeps `--help` quick
    from gateway.tenants.key_file import KeyFile  # noqa: PLC0415

    check_settings(settings)
    keyed = bool(KeyFile(settings.state.dir, settings.keys.pepper).ring())
    if not _is_loopback(settings.server.host) and not keyed:
        raise ConfigError(
            f"refusing to bind {settings.server.host}: there are no API keys, and without keys the gateway binds"
            " loopback only; make one with `thinktwice keys create --tenant NAME`, or use --host 127.0.0.1"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError as error:
        raise ConfigError(f"server.host {host!r} is not an IP address: use 127.0.0.1 or ::1") from error


def _bind(settings: Settings) -> list[socket.socket]:
    """One listening socket a worker on one port; the kernel spreads connections over them.

    Raises `ConfigError` when anything else has the port, another gateway's workers included.
    """
    host, port = settings.server.host, settings.server.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sockets: list[socket.socket] = []
    try:
        with socket.socket(family, socket.SOCK_STREAM) as alone:  # no SO_REUSEPORT: it shares the port with nobody
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind((host, port))
            port = alone.getsockname()[1]
        for _ in range(settings.server.workers):
            listener = socket.socket(family, socket.SOCK_STREAM)
            sockets.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if settings.server.workers > 1:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind((host, port))
            listener.listen(socket.SOMAXCONN)
            listener.set_inheritable(True)
    except OSError as error:
        for listener in sockets:
            listener.close()
        raise ConfigError(f"cannot bind {host}:{port} ({error.strerror}): choose another --port") from error
    return sockets


def _serve(settings: Settings, listener: socket.socket) -> int:
    import uvloop  # noqa: PLC0415 - keeps `--help` quick

    _allow_open_files()
    return uvloop.run(_serve_until_stopped(settings, listener))


def _allow_open_files() -> None:
    """Take as many open files as the system lets us: a connection is one, and login shells start with 1024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _serve_until_stopped(settings: Settings, listener: socket.socket) -> int:
    """Open the runtime, serve, close it. Raises `ThinkTwiceError` when a part of it cannot start."""
    from gateway.bootstrap import open_runtime  # noqa: PLC0415
    from gateway.http.app import create_app  # noqa: PLC0415
    from gateway.http.connection import ConnectionLimits  # noqa: PLC0415
    from gateway.http.server import DrainingServer  # noqa: PLC0415

    _stop_by_cancelling()
    try:
        async with open_runtime(settings) as runtime:
            _ignore_stop_signals()
            limits = ConnectionLimits(settings.server.max_connections, settings.server.slow_client_s)
            server = DrainingServer(create_app(runtime), runtime.drain, limits)
            gc.collect()
            gc.freeze()  # what start-up made is never garbage: a full collection that walked it would stall the loop
            await server.serve(sockets=[listener])
            return 0 if server.started else 1
    except asyncio.CancelledError:
        return 0  # stopped before it served


def _stop_by_cancelling() -> None:
    """Until it serves, a stop signal cancels the running task: what was started is closed again."""
    starting = asyncio.current_task()
    assert starting is not None
    for stop in _STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(stop, starting.cancel)


def _ignore_stop_signals() -> None:
    """While uvicorn serves it has handlers of its own, and it raises the signal once more after it has drained."""
    for stop in _STOP_SIGNALS:
        asyncio.get_running_loop().remove_signal_handler(stop)
        signal.signal(stop, lambda *_: None)


def _supervise(settings: Settings, sockets: Sequence[socket.socket]) -> int:
    """Run one child a socket; a signal stops them all, and a child that dies takes the others with it.

    Raises the `ThinkTwiceError` that kept a child from starting.
    """
    context = multiprocessing.get_context("spawn")
    failures, failed = context.Pipe(duplex=False)
    children: list[BaseProcess] = [
        context.Process(target=_worker, args=(settings.model_dump(), listener, failed)) for listener in sockets
    ]

    unstopped = list(children)  # one signal each: an interpreter that is ending anyway would die of a second

    def stop(*_: object) -> None:
        while unstopped:
            unstopped.pop().terminate()

    for child in children:
        child.start()
    for number in _STOP_SIGNALS:
        signal.signal(number, stop)
    for listener in sockets:  # one held here would go on taking connections that nobody serves
        listener.close()
    wait([child.sentinel for child in children])
    stop()
    for child in children:
        child.join()
    if failures.poll():
        raise failures.recv()
    codes = [child.exitcode for child in children]
    if any(codes):
        raise ThinkTwiceError(f"the serving processes ended with exit codes {codes}")
    return 0


def _worker(values: dict[str, Any], listener: socket.socket, failed: Connection) -> None:
    logging.basicConfig(level=logging.INFO, format=_LOG_FORMAT)
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    try:
        code = _serve(Settings.model_validate(values), listener)
    except ConfigError as error:
        failed.send(ConfigError(str(error)))
        code = 2
    except ThinkTwiceError as error:
        failed.send(ThinkTwiceError(str(error)))
        code = 1
    raise SystemExit(code)


def _stop_with_parent() -> None:
    """A parent that was killed outright leaves nothing behind."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
