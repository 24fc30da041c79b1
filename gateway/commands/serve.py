"""`thinktwice serve`: the gateway, one process a worker, each with its own socket on the same port."""

from __future__ import annotations

import argparse
import ipaddress
import logging
import multiprocessing
import signal
import socket
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from router.errors import ConfigError
from router.settings import Settings, load_settings

DRAIN_S = 10  # longest wait for running requests at shutdown


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
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    _check(settings)
    sockets = _bind(settings)
    if settings.server.workers == 1:
        return _serve(settings, sockets[0])
    return _supervise(settings, sockets)


def _check(settings: Settings) -> None:
    """Find what cannot work before any socket is bound. Raises `ConfigError`."""
    from gateway.bootstrap import check_settings  # noqa: PLC0415 - keeps `--help` quick

    if not _is_loopback(settings.server.host):
        raise ConfigError(
            f"refusing to bind {settings.server.host}: no API keys are configured, and without keys the gateway binds"
            " loopback only; use --host 127.0.0.1 and put a proxy that authenticates in front"
        )
    check_settings(settings)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError as error:
        raise ConfigError(f"server.host {host!r} is not an IP address: use 127.0.0.1 or ::1") from error


def _bind(settings: Settings) -> list[socket.socket]:
    """One listening socket a worker on one port; the kernel spreads connections over them."""
    host, port = settings.server.host, settings.server.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sockets: list[socket.socket] = []
    for _ in range(settings.server.workers):
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if settings.server.workers > 1:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise ConfigError(f"cannot bind {host}:{port} ({error.strerror}): choose another --port") from error
        port = listener.getsockname()[1]
        listener.set_inheritable(True)
        sockets.append(listener)
    return sockets


def _serve(settings: Settings, listener: socket.socket) -> int:
    import uvloop  # noqa: PLC0415 - keeps `--help` quick

    # uvicorn raises a stop signal once more after it has drained; the runtime is closed after that.
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, lambda *_: None)
    return uvloop.run(_serve_until_stopped(settings, listener))


async def _serve_until_stopped(settings: Settings, listener: socket.socket) -> int:
    """Open the runtime, serve, close it. Raises `ThinkTwiceError` when a part of it cannot start."""
    import uvicorn  # noqa: PLC0415

    from gateway.app import create_app  # noqa: PLC0415
    from gateway.bootstrap import open_runtime  # noqa: PLC0415

    async with open_runtime(settings) as runtime:
        config = uvicorn.Config(
            create_app(runtime),
            loop="none",
            http="httptools",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=DRAIN_S,
        )
        server = uvicorn.Server(config)
        await server.serve(sockets=[listener])
        return 0 if server.started else 1


def _supervise(settings: Settings, sockets: Sequence[socket.socket]) -> int:
    """Run one child a socket; a signal stops them all, and a child that dies takes the others with it."""
    context = multiprocessing.get_context("spawn")
    children: list[BaseProcess] = [
        context.Process(target=_worker, args=(settings.model_dump(), listener), daemon=False) for listener in sockets
    ]

    def stop(*_: object) -> None:
        for child in children:
            if child.is_alive():
                child.terminate()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    for child in children:
        child.start()
    multiprocessing.connection.wait([child.sentinel for child in children])
    stop()
    for child in children:
        child.join()
    return 0 if all(child.exitcode == 0 for child in children) else 1


def _worker(values: dict[str, Any], listener: socket.socket) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    raise SystemExit(_serve(Settings.model_validate(values), listener))
