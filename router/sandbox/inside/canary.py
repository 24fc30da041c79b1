"""What a canary tries inside a sandbox: honest work, which must succeed, and escapes, which must not."""

from __future__ import annotations

import ctypes
import os
import socket
import sqlite3
import threading
from collections.abc import Callable
from typing import Any

_CLONE_NEWUSER = 0x10000000
_PTRACE_ATTACH = 16


def honest(left: int, right: int) -> int:
    """The sum, by way of SQLite, so that its library is known to load."""
    [[total]] = sqlite3.connect(":memory:").execute("SELECT ? + ?", (left, right))
    return int(total)


def leaks(target: dict[str, Any]) -> list[str]:
    """The names of the escapes that worked.

    `target`: `secret` in a `file` and in the environment of the process `pid`; a listener on the loopback `port`; a
    `folder` that anybody may write to.
    """
    return [name for name, escape in _ESCAPES.items() if _works(escape, target)]


def _works(escape: Callable[[dict[str, Any]], object], target: dict[str, Any]) -> bool:
    try:
        return bool(escape(target))
    except (OSError, RuntimeError, ValueError):
        return False


def _read_file(target: dict[str, Any]) -> object:
    with open(target["file"], encoding="utf-8") as file:
        return file.read()


def _read_accounts(target: dict[str, Any]) -> object:
    with open("/etc/passwd", encoding="utf-8") as file:
        return file.read()


def _read_environments(target: dict[str, Any]) -> object:
    secret = target["secret"].encode()
    for pid in (*range(1, 64), "self", target["pid"]):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if secret in file.read():
                    return True
        except OSError:
            continue
    return target["secret"] in str(os.environ)


def _write(target: dict[str, Any]) -> object:
    with open(os.path.join(target["folder"], "leak"), "w", encoding="utf-8") as file:
        return file.write("leak") + 1


def _connect(target: dict[str, Any]) -> object:
    with socket.create_connection(("127.0.0.1", target["port"]), timeout=0.5) as connection:
        return connection.send(b"leak")


def _datagram(target: dict[str, Any]) -> object:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        return sender.sendto(b"leak", ("127.0.0.1", target["port"]))


def _fork(target: dict[str, Any]) -> object:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return True


def _spawn(target: dict[str, Any]) -> object:
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
    return True


def _thread(target: dict[str, Any]) -> object:
    threading.Thread(target=int).start()
    return True


def _signal(target: dict[str, Any]) -> object:
    os.kill(target["pid"], 0)
    return True


def _user_namespace(target: dict[str, Any]) -> object:
    return ctypes.CDLL(None).unshare(_CLONE_NEWUSER) == 0


def _trace(target: dict[str, Any]) -> object:
    return ctypes.CDLL(None).ptrace(_PTRACE_ATTACH, target["pid"], None, None) == 0


_ESCAPES: dict[str, Callable[[dict[str, Any]], object]] = {
    "reads a file": _read_file,
    "reads the accounts": _read_accounts,
    "reads another's environment": _read_environments,
    "writes a file": _write,
    "connects": _connect,
    "sends a datagram": _datagram,
    "forks": _fork,
    "spawns": _spawn,
    "starts a thread": _thread,
    "signals another process": _signal,
    "makes a user namespace": _user_namespace,
    "traces another process": _trace,
}
