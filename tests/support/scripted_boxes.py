"""Jobs whose sandboxes are a script: what their processes would write, frame by frame."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, cast

from router.sandbox.box import Box
from router.sandbox.inside.values import encode
from router.sandbox.sandbox import Job

Script = Iterable[dict[str, Any]]


def value(plain: Any) -> dict[str, Any]:
    """The reply of a call that returned `plain`."""
    return {"value": encode(plain)}


class ScriptedBox:
    """Answers each request with the next frame, and the one after the last never."""

    overflowed = False

    def __init__(self, frames: Script) -> None:
        self._frames = iter(frames)

    async def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        for frame in self._frames:
            return frame
        await asyncio.Event().wait()
        raise AssertionError

    def kill(self) -> None:
        pass


class ScriptedJob(Job):
    """A job whose boxes follow these scripts, in the order in which they are opened."""

    def __init__(self, *scripts: Script) -> None:
        self._scripts = iter(scripts)

    async def open(self) -> Box:
        return cast(Box, ScriptedBox(next(self._scripts)))
