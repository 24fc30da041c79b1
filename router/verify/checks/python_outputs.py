"""`python_outputs`: what the answer's code computes on generated inputs, as a key to vote by; it proves nothing.

Programs that compute the same on shared inputs vote together (CodeT, Chen et al. 2022, arXiv 2207.10397, without its
generated tests: what one model thinks of its own answers is no oracle).
"""

from __future__ import annotations

import asyncio
import hashlib
import keyword
from typing import Any

import msgspec

from router.enums import CheckClass, Outcome
from router.errors import InvalidRequest
from router.sandbox.box import Box
from router.sandbox.inside.values import NotPlain, decode, encode
from router.sandbox.sandbox import Job
from router.verify.candidate import CandidateFailed, ask, code_of, load, plain
from router.verify.check_type import Judgement, SandboxedCheck, failed
from router.verify.inputs import ArgumentType, generated
from router.verify.value_key import value_key

MAX_ARGS = 8


class PythonOutputsParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Fields of a `python_outputs` check."""

    entry: str
    args: list[ArgumentType]


def admit(params: PythonOutputsParams) -> None:
    """Refuse what cannot be called. Raises `InvalidRequest`."""
    if not params.entry.isidentifier() or keyword.iskeyword(params.entry):
        raise InvalidRequest("must be the name of a function", param="entry")
    if not 1 <= len(params.args) <= MAX_ARGS:
        raise InvalidRequest(f"must hold 1 to {MAX_ARGS} types", param="args")


async def run(params: PythonOutputsParams, text: str, job: Job, timeout_s: float) -> Judgement:
    """A pass without credit, whose key is the hash of all outcomes; a fail only where there is no such function.

    Nothing is said of code that cannot be called on all inputs, which may lie outside of its task, that raises on more
    than half of them, or that computes the same on all others (a stub, a function that prints): programs that have
    nothing in common would agree on it.
    """
    candidate = await job.open()
    deadline = asyncio.get_running_loop().time() + timeout_s
    try:
        names = await load(candidate, code_of(text), deadline)
    except CandidateFailed as error:
        return failed(str(error))
    if params.entry not in names:
        return failed("no function of the entry's name")
    try:
        inputs = generated(params.entry, params.args)
        outcomes = [await _outcome(candidate, params.entry, args, deadline) for args in inputs]
    except CandidateFailed as error:
        return _no_vote(str(error))
    returned = [outcome for outcome in outcomes if not outcome.startswith("raised")]
    if 2 * len(returned) < len(outcomes):
        return _no_vote("raises on most inputs")
    if len(set(returned)) == 1:
        return _no_vote("computes the same on all inputs")
    return Judgement(Outcome.PASS, None, key=hashlib.sha256("\n".join(outcomes).encode()).hexdigest())


def _no_vote(why: str) -> Judgement:
    return Judgement(Outcome.SKIPPED, None, why)


async def _outcome(candidate: Box, entry: str, args: list[Any], deadline: float) -> str:
    """What one call came to: its value, for None what it made of its arguments, or the builtin class it raised."""
    message = {"op": "call", "name": entry, "args": encode(args), "kwargs": encode({}), "state": True}
    reply = await ask(candidate, message, deadline)
    match reply:
        case {"raised": {"type": str(kind)}}:
            return f"raised {value_key(kind)}"
    value = plain(reply, "the call raised")
    if value is not None:
        return value_key(value)
    try:
        left = value_key(decode(reply.get("state")))
    except NotPlain as error:
        raise CandidateFailed("not a plain value") from error
    return value_key(None) if left == value_key([args, {}]) else f"left {left}"


TYPE = SandboxedCheck("python_outputs", CheckClass.SOFT, "2", PythonOutputsParams, admit, run)
