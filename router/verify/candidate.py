"""Asking a sandbox that runs a candidate's code: whatever goes wrong in there is the candidate's failure."""

from __future__ import annotations

import asyncio
from typing import Any

from router.sandbox.box import Box, BoxEnded
from router.sandbox.inside.values import NotPlain, decode, encode
from router.strict_json import last_fenced_block

OVER_DEADLINE = "over its deadline"


class CandidateFailed(Exception):
    """The code did not do what was asked of it; the message says why, in fixed words."""


class CandidateEnded(CandidateFailed):
    """Its sandbox is gone: nothing more can be asked."""


def code_of(text: str) -> str:
    """The code of an answer: its last fenced block, else the whole text."""
    block = last_fenced_block(text)
    return text if block is None else block


async def ask(box: Box, message: dict[str, Any], deadline: float) -> dict[str, Any]:
    """The reply to one request. `deadline` in seconds of the event loop's clock. Raises `CandidateEnded`."""
    try:
        async with asyncio.timeout_at(deadline):
            return await box.ask(message)
    except TimeoutError as error:
        raise CandidateEnded(OVER_DEADLINE) from error
    except BoxEnded as error:
        raise CandidateEnded("printed too much" if box.overflowed else "its process ended") from error


async def load(box: Box, source: str, deadline: float) -> list[str]:
    """Run a source as a module; the names of its functions. Raises `CandidateFailed`."""
    names = plain(await ask(box, {"op": "load", "source": source}, deadline), "the code does not load")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CandidateFailed("the code does not load")
    return names


async def call(box: Box, name: str, args: list[Any], kwargs: dict[str, Any], deadline: float) -> Any:
    """What a function of the loaded module returns, as a plain value. Raises `CandidateFailed`."""
    message = {"op": "call", "name": name, "args": encode(args), "kwargs": encode(kwargs)}
    return plain(await ask(box, message, deadline), "the call raised")


def plain(reply: dict[str, Any], otherwise: str) -> Any:
    """The value of a reply. Raises `CandidateFailed`, saying `otherwise` of an exception."""
    if "raised" in reply:
        raise CandidateFailed(otherwise)
    try:
        return decode(reply["value"])
    except (KeyError, NotPlain) as error:
        raise CandidateFailed("not a plain value") from error
