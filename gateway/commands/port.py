"""The port of a gateway: one socket a serving process, among which the kernel spreads connections."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from router.errors import ConfigError


@contextmanager
def reserved_port(host: str, port: int, setting: str = "--port") -> Iterator[int]:
    """Hold a TCP port, 0 for a free one, for the sockets of `listener`, and yield its number.

    What holds it never listens, so that no connection waits there for nobody. Raises `ConfigError` when anything else
    has the port, the processes of another gateway included; `setting` names what to change.
    """
    try:
        with _socket(host) as alone:  # no SO_REUSEPORT: it shares the port with nobody
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of a gateway before may linger
            alone.bind((host, port))
            port = alone.getsockname()[1]
        holder = _socket(host)  # without SO_REUSEADDR, which would let another gateway's `alone` in
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind((host, port))
    except OSError as error:
        raise ConfigError(f"cannot bind {host}:{port} ({error.strerror}): choose another {setting}") from error
    with holder:
        yield port


def listener(host: str, port: int) -> socket.socket:
    """A socket that listens on a reserved port beside others of this user's. Raises `OSError`."""
    made = _socket(host)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind((host, port))
    made.listen(socket.SOMAXCONN)
    made.set_inheritable(True)
    return made


def _socket(host: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
