"""Several serving processes on one port: one that ends is followed by another, a stop is passed on to all."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from gateway.commands.port import listener, reserved_port
from gateway.commands.serving import LOG_FORMAT, STOP_SIGNALS, serve
from router.errors import ConfigError, ThinkTwiceError
from router.settings import Settings

_RESTART_S = (0.0, 1.0, 5.0, 30.0)  # waits before the next process, by how many ended in a row
_STEADY_S = 60.0  # one that served this long does not count among them
_LOOK_S = 1.0  # a stop signal that comes just before a wait is noticed by its end

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Running:
    """A process, and the pipe on which it says None once it serves, or the error that keeps it from that."""

    process: BaseProcess
    told: Connection
    since: float
    serves: bool = False
    stopping: bool = False
    fault: ThinkTwiceError | None = None

    def hear(self) -> None:
        """Take in what it has said."""
        while not self.serves and self.fault is None and self.told.poll():
            try:
                self.fault = self.told.recv()
            except EOFError:  # it ended without a word
                return
            self.serves = self.fault is None

    def ended_as_asked(self, code: int) -> bool:
        """Whether `code` is that of a good end: a stop before its handlers are set ends the process outright."""
        return code == 0 or (self.stopping and not self.serves and code == -signal.SIGTERM)

    def stop(self) -> None:
        """Ask for its end, once: an interpreter that is ending anyway would die of a second signal."""
        if not self.stopping:
            self.stopping = True
            self.process.terminate()


@dataclass(slots=True)
class _Place:
    """One of the serving processes, with those before it."""

    running: _Running | None = None
    ended: int = 0  # in a row
    due: float = 0.0  # when the next is to be started, by the monotonic clock


class Supervisor:
    """`[server] workers` serving processes on a reserved port. Once all have served, one that ends is replaced."""

    def __init__(self, settings: Settings, port: int) -> None:
        self._settings, self._port = settings, port
        self._places = [_Place() for _ in range(settings.server.workers)]
        self._stopping = self._complete = False
        self._bad_codes: list[int] = []
        self._fault: ThinkTwiceError | None = None

    def run(self) -> int:
        """Run until a signal, or until a process ends before all have served; 0 when all ended in good order.

        Raises the `ThinkTwiceError` that kept a process from serving, or one that names the exit codes.
        """
        for stop in STOP_SIGNALS:
            signal.signal(stop, self._stop)
        while not self._stopping or any(place.running for place in self._places):
            if self._stopping:
                self._stop()  # one that was being started when the signal came
            else:
                self._start()
            self._await_news()
            for number, place in enumerate(self._places):
                self._look(number, place)
            self._see_whether_complete()
        if self._fault is not None:
            raise self._fault
        if self._bad_codes:
            raise ThinkTwiceError(f"serving processes ended with exit codes {self._bad_codes}")
        return 0

    def _stop(self, *_: object) -> None:
        self._stopping = True
        for place in self._places:
            if place.running is not None:
                place.running.stop()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        for number, place in enumerate(self._places):
            if place.running is not None or time.monotonic() < place.due:
                continue
            told, telling = context.Pipe(duplex=False)
            # What the process gets is closed here: a listener kept open would take connections for nobody.
            with ExitStack() as stack:
                listeners = [stack.enter_context(listener(*at)) for at in self._addresses(number)]
                stack.enter_context(telling)
                process = context.Process(target=_serve, args=(self._settings.model_dump(), listeners, telling))
                process.start()
            place.running = _Running(process, told, time.monotonic())

    def _addresses(self, number: int) -> list[tuple[str, int]]:
        """The shared port, and the one that only this worker has, if there is one."""
        server = self._settings.server
        own = [] if server.metrics_port is None else [(server.host, server.metrics_port + number)]
        return [(server.host, self._port), *own]

    def _await_news(self) -> None:
        now = time.monotonic()
        running = [place.running for place in self._places if place.running is not None]
        pipes = [each.told for each in running if not each.serves and each.fault is None]
        due = [place.due - now for place in self._places if place.running is None]
        wait([*(each.process.sentinel for each in running), *pipes], max(min([_LOOK_S, *due]), 0.0))

    def _see_whether_complete(self) -> None:
        if not self._complete and all(place.running and place.running.serves for place in self._places):
            self._complete = True
            _log.info("%d processes serve port %d", len(self._places), self._port)

    def _look(self, number: int, place: _Place) -> None:
        """Take in what the process of a place has said, and its end."""
        running = place.running
        if running is None:
            return
        running.hear()
        code = running.process.exitcode
        if code is None:
            return
        place.running = None
        running.told.close()
        running.process.close()
        if self._stopping or not self._complete:
            self._bad_codes += [] if running.ended_as_asked(code) else [code]
            self._fault = self._fault or running.fault
            self._stop()
            return
        steady = running.serves and time.monotonic() - running.since >= _STEADY_S
        place.ended = 1 if steady else place.ended + 1
        wait_s = _RESTART_S[min(place.ended, len(_RESTART_S)) - 1]
        place.due = time.monotonic() + wait_s
        why = running.fault or f"exit code {code}"
        _log.error("serving process %d ended (%s): another starts in %.0f s", number, why, wait_s)


def supervise(settings: Settings) -> int:
    """Run a `Supervisor` on the configured port. Raises `ConfigError` when it is taken, and as `Supervisor.run`."""
    server = settings.server
    with ExitStack() as stack:
        port = stack.enter_context(reserved_port(server.host, server.port))
        if (first := server.metrics_port) is not None:
            for own in range(first, first + server.workers):
                stack.enter_context(reserved_port(server.host, own, "[server] metrics_port"))
        return Supervisor(settings, port).run()


def _serve(values: dict[str, Any], listeners: list[socket.socket], telling: Connection) -> None:
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    try:
        code = serve(Settings.model_validate(values), listeners, lambda: telling.send(None))
    except ConfigError as error:
        telling.send(ConfigError(str(error)))
        code = 2
    except ThinkTwiceError as error:
        telling.send(ThinkTwiceError(str(error)))
        code = 1
    raise SystemExit(code)


def _stop_with_parent() -> None:
    """A parent that was killed outright leaves nothing behind."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
