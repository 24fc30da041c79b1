"""`command`: a program of the operator's judges the text, JSON in and JSON out, in a sandbox."""

from __future__ import annotations

import asyncio

import msgspec

from router.enums import CheckClass, Outcome
from router.errors import InvalidRequest
from router.sandbox.box import BoxEnded
from router.sandbox.sandbox import Job
from router.verify.check_type import PASSED, Judgement, SandboxedCheck, failed, undecided

_MAX_NAME_CHARS = 64


class CommandParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Fields of a `command` check."""

    name: str


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the program prints. A fail may earn part of the score."""

    passed: bool
    score: float = 0.0


def admit(params: CommandParams) -> None:
    """Refuse a name that none can have; the verifier knows those that there are. Raises `InvalidRequest`."""
    if not 1 <= len(params.name) <= _MAX_NAME_CHARS:
        raise InvalidRequest(f"must have 1 to {_MAX_NAME_CHARS} characters", param="name")


async def run(params: CommandParams, text: str, job: Job, timeout_s: float) -> Judgement:
    """What the program says. It is the operator's, so that its end without an answer is an error and no fail."""
    box = await job.program(params.name)
    try:
        async with asyncio.timeout(timeout_s):
            printed = await box.communicate(msgspec.json.encode({"text": text.encode(errors="replace").decode()}))
        answer = msgspec.json.decode(printed, type=Answer)
    except TimeoutError:
        return Judgement(Outcome.TIMEOUT, None, "the command is over its deadline")
    except BoxEnded:
        return undecided("the command failed")
    except msgspec.MsgspecError:
        return undecided("the command gave no answer")
    if answer.passed:
        return PASSED
    return failed("the command says no", answer.score) if 0 <= answer.score < 1 else undecided("the score is no share")


TYPE = SandboxedCheck("command", CheckClass.DECISIVE, "1", CommandParams, admit, run)
