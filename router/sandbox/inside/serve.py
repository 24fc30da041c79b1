"""The loop of a sandbox: one request frame in, one reply frame out. What it runs may do anything to it but escape."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import Any

from router.sandbox.inside.confine import confine
from router.sandbox.inside.values import NotPlain, decode, encode

MAX_REPLY_BYTES = 64 * 1024
_MAX_NAMES = 200


class Channel:
    """Frames to and from the parent: JSON behind its length, four bytes, big-endian."""

    def __init__(self, requests: int, replies: int) -> None:
        self._requests, self._replies = requests, replies

    def receive(self) -> Any:
        """The next frame. Raises `SystemExit` when the parent has gone."""
        return json.loads(self._read(int.from_bytes(self._read(4), "big")))

    def send(self, message: Any) -> None:
        """Write one frame, in place of one over 64 KiB that it was too large."""
        payload = json.dumps(message).encode()
        if len(payload) > MAX_REPLY_BYTES:
            payload = json.dumps({"unplain": f"more than {MAX_REPLY_BYTES // 1024} KiB"}).encode()
        pending = len(payload).to_bytes(4, "big") + payload
        while pending:
            pending = pending[os.write(self._replies, pending) :]

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = os.read(self._requests, size - len(data))
            if not part:
                raise SystemExit(0)
            data += part
        return data


def main(setup: dict[str, Any]) -> None:
    """Confine this process as `setup` says, then serve until the parent ends it, or become its `argv`."""
    if setup["argv"]:
        confine(setup)
        Channel(0, 1).send({"ready": True})
        os.execv(setup["argv"][0], setup["argv"])
    channel = _take_pipes()
    confine(setup)
    channel.send({"ready": True})
    candidate = ModuleType("candidate")
    while True:
        request = channel.receive()
        reply = _guarded(_OPERATIONS[request["op"]], candidate, request, channel)
        sys.stdout.flush()
        channel.send(reply)


def raised(error: BaseException) -> dict[str, Any]:
    """How an exception crosses: the nearest builtin class it is of, and the start of its message."""
    builtin = next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins")
    return {"raised": {"type": builtin, "message": str(error)[:200]}}


def _guarded(operation: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    try:
        return operation(*arguments)
    except NotPlain as error:
        return {"unplain": str(error)}
    except BaseException as error:  # noqa: BLE001  # the boundary: whatever untrusted code raises ends here
        return raised(error)


def _load(candidate: ModuleType, request: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """Run a source as a module. The reply names its functions."""
    exec(compile(request["source"], "<candidate>", "exec"), candidate.__dict__)
    functions = [name for name, value in candidate.__dict__.items() if callable(value) and not isinstance(value, type)]
    return {"value": encode([name for name in functions if not name.startswith("__")][:_MAX_NAMES])}


def _call(candidate: ModuleType, request: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """Call a function of the loaded module. With `state` the reply has the arguments as the call left them."""
    arguments, named = decode(request["args"]), decode(request["kwargs"])
    value = encode(candidate.__dict__[request["name"]](*arguments, **named))
    return {"value": value} | ({"state": encode([arguments, named])} if request.get("state") else {})


def _run(candidate: ModuleType, request: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """Run a source as a script; its traceback, if any, is part of its output."""
    try:
        exec(compile(request["source"], "<script>", "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        if end.code not in (None, 0):
            raise
    except BaseException:
        sys.stdout.flush()
        traceback.print_exc()
        raise
    return {"value": None}


def _test(candidate: ModuleType, request: dict[str, Any], channel: Channel) -> dict[str, Any]:
    from router.sandbox.inside.testing import run_tests  # noqa: PLC0415  # few sandboxes need it

    return run_tests(request, channel)


_OPERATIONS: dict[str, Callable[..., dict[str, Any]]] = {"load": _load, "call": _call, "run": _run, "test": _test}


def _take_pipes() -> Channel:
    """Our two pipes, out of reach of what reads fd 0 or prints to fd 1; both outputs go to the pipe of stderr."""
    channel = Channel(os.dup(0), os.dup(1))
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    return channel
