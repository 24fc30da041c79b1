"""A process that dies between two steps of its work on files, once at each step."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

_STEPS = (
    *("open", "pwrite", "fsync", "fdatasync", "ftruncate", "truncate"),
    *("rename", "replace", "link", "unlink", "mkdir", "rmdir", "chmod"),
)
_WRITES = ("BEGIN", "COMMIT", "CREATE", "INSERT", "UPDATE", "DELETE")


def crash_at_every_step(prepare: Callable[[], Any], work: Callable[[], Any], *, least: int) -> Iterator[bool]:
    """Kill a process running `work` before its first, second, ... system call on files or write to SQLite.

    `prepare` runs before each; yields after each death whether it died (the last run reaches its end). Fails when the
    work has fewer than `least` steps: then nothing was tested.
    """
    step, died = 0, True
    while died:
        step += 1
        prepare()
        died = _dies_at(step, work)
        yield died
    assert step > least, f"the work took {step - 1} steps only"


def _dies_at(step: int, work: Callable[[], Any]) -> bool:
    child = os.fork()
    if child == 0:
        try:
            _arm(step)
            work()
            os._exit(0)
        finally:
            os._exit(1)  # an exception is a failure of the test, not a crash
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return True
    assert os.waitstatus_to_exitcode(status) == 0, "the work raised an error"
    return False


def _arm(step: int) -> None:
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1
        if calls == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            count()
            return original(*args, **kwargs)

        return call

    for name in _STEPS:
        setattr(os, name, counted(getattr(os, name)))
    connect = sqlite3.connect

    def traced(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        db: sqlite3.Connection = connect(*args, **kwargs)
        db.set_trace_callback(lambda statement: count() if statement.startswith(_WRITES) else None)
        return db

    setattr(sqlite3, "connect", traced)  # noqa: B010  # the module's type is not assignable
