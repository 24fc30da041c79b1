"""Child processes that live and die with their parent."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from router.cli import EXIT_USAGE
from router.errors import ConfigError, ThinkTwiceError

STOP_S = 15.0
_PR_SET_PDEATHSIG = 1
_TAIL_LINES = 8
# Below what Linux gives to outgoing connections (32,768 on), one of which would take a port before its server does.
_PORTS = range(20_000, 32_768)


class ChildDied(ThinkTwiceError):
    """A child process ended on its own; the message holds the end of its log."""


@dataclass(frozen=True, slots=True)
class Child:
    """One running process and its log file."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raise `ChildDied` when it has ended; with its own last line when it refused its arguments (exit code 2)."""
        code = self.process.poll()
        if code is None:
            return
        lines = self.log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
        if code == EXIT_USAGE:
            raise ChildDied(f"the {self.name} did not start: {lines[-1]}")
        tail = "".join(f"\n    {line}" for line in lines[-_TAIL_LINES:])
        raise ChildDied(f"the {self.name} ended with exit code {code}; the end of {self.log}:{tail}")


class Children:
    """Started in order, stopped in reverse. Use as a context manager."""

    def __init__(self, log_dir: Path) -> None:
        log_dir.mkdir(parents=True, exist_ok=True)
        self._log_dir = log_dir
        self._running: list[Child] = []

    def __enter__(self) -> Children:
        return self

    def __exit__(self, *_: object) -> None:
        for child in reversed(self._running):
            _stop(child.process)

    def start(self, name: str, command: Sequence[str], env: Mapping[str, str] | None = None) -> Child:
        """Start a process in a session of its own, so that a Ctrl-C reaches only the parent, which then stops it."""
        log = self._log_dir / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - before any thread is started
            )
        child = Child(name, process, log)
        self._running.append(child)
        return child

    def check(self) -> None:
        """Raise `ChildDied` when any of them has ended."""
        for child in self._running:
            child.check()


def free_port() -> int:
    """A loopback port that nothing has, by chance. Raises `ConfigError` when a hundred of them are taken."""
    for port in random.SystemRandom().sample(_PORTS, 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise ConfigError(f"no free port found between {_PORTS.start} and {_PORTS.stop - 1}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end, then end what is left of its session: vLLM's workers outlive a server that is killed."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _die_with_parent() -> None:
    """Even a parent that is killed outright leaves nothing behind (Linux; elsewhere the orderly stop must do)."""
    if os.uname().sysname == "Linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
