"""The probe of a sandbox: honest work must pass and every escape must fail, through the path that jobs take."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import tempfile
from pathlib import Path
from typing import Any

from router.errors import SandboxUnavailable
from router.sandbox import inside
from router.sandbox.box import BoxEnded
from router.sandbox.inside.values import NotPlain, decode, encode
from router.sandbox.sandbox import Sandbox

_TIMEOUT_S = 10.0
_SOURCE = Path(inside.__file__).parent / "canary.py"


async def probe(sandbox: Sandbox) -> str | None:
    """What is wrong with the sandbox, in one line, or None: bait is laid out on this machine and must not be taken.

    Raises `SandboxUnavailable` when no sandbox could be had to try, or no bait be laid out.
    """
    try:
        return await _probe(sandbox)
    except OSError as error:  # no descriptor, process or space is left
        raise SandboxUnavailable(f"the sandbox cannot be probed: {error}") from error


async def _probe(sandbox: Sandbox) -> str | None:
    secret = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="thinktwice-canary-") as folder, _listener() as bait:
        bystander = await asyncio.create_subprocess_exec(
            "sleep", str(3 * _TIMEOUT_S), env={"SECRET": secret, "PATH": os.defpath}
        )
        target: dict[str, Any] = {"secret": secret, "folder": folder, "file": _plant(folder, secret)}
        target |= {"pid": bystander.pid, "port": bait.getsockname()[1]}
        try:
            wrong = await _try(sandbox, target)
        finally:
            alive = bystander.returncode is None
            if alive:
                bystander.kill()
            await bystander.wait()
        if wrong is None and not alive:
            wrong = "kills another process"
        if wrong is None and os.listdir(folder) != ["secret"]:
            wrong = "writes a file"
        if wrong is None and _reached(bait):
            wrong = "connects"
    return None if wrong is None else f"untrusted code {wrong}"


def _listener() -> socket.socket:
    bait = socket.create_server(("127.0.0.1", 0))
    bait.setblocking(False)
    return bait


def _plant(folder: str, secret: str) -> str:
    """A file with the secret that anybody may read, in a folder that anybody may write to."""
    os.chmod(folder, 0o777)  # noqa: S103  # it is bait
    path = os.path.join(folder, "secret")
    with open(path, "w", encoding="utf-8") as file:
        file.write(secret)
    os.chmod(path, 0o644)
    return path


async def _try(sandbox: Sandbox, target: dict[str, Any]) -> str | None:
    box = await sandbox.take()
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            await box.ask({"op": "load", "source": _SOURCE.read_text()})
            total = await box.ask({"op": "call", "name": "honest", "args": encode([20, 22]), "kwargs": encode({})})
            if total != {"value": 42}:
                raise SandboxUnavailable("honest code does not run in the sandbox")
            reply = await box.ask({"op": "call", "name": "leaks", "args": encode([target]), "kwargs": encode({})})
        leaks = decode(reply.get("value"))
    except (TimeoutError, BoxEnded, NotPlain) as error:
        raise SandboxUnavailable("the probe of the sandbox did not end") from error
    finally:
        await box.close()
    if not isinstance(leaks, list):
        raise SandboxUnavailable("the probe of the sandbox failed")
    return ", ".join(map(str, leaks)) or None


def _reached(bait: socket.socket) -> bool:
    try:
        bait.accept()[0].close()
    except BlockingIOError:
        return False
    return True
