"""Driving a gateway: requests in order, a few at a time, each kept with its reply or its error."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import openai

from gateway.client import EVALUATION, Reply, error_code, reply_of
from router.enums import Status
from router.errors import ThinkTwiceError
from router.questions import Question


@dataclass(frozen=True, slots=True)
class Job:
    """One request: a row under one arm of the comparison."""

    row: Question
    arm: str
    bounds: Mapping[str, int] | None = None  # of the samples; None leaves the row's own
    sampling: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=lambda: EVALUATION)

    def request(self, model: str) -> dict[str, Any]:
        """The SDK call's arguments."""
        verification = {**self.row.verification, **({"samples": self.bounds} if self.bounds else {})}
        return {
            "model": model,
            "messages": list(self.row.messages),
            "extra_headers": dict(self.headers),
            "extra_body": {**self.sampling, "verification": verification},
        }


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of a job: a reply, or the short name of an error."""

    row: int  # line of the data file
    arm: str
    wall_s: float
    reply: Reply | None
    error: str | None = None

    @property
    def solved(self) -> bool:
        """Whether the gateway returned a verified answer; an error solves nothing."""
        return self.reply is not None and self.reply.verification["status"] == Status.VERIFIED


async def drive(
    client: openai.AsyncOpenAI, jobs: Sequence[Job], model: str, concurrency: int, done: Callable[[Trial], None]
) -> None:
    """Run the jobs in order, `concurrency` requests at a time; `done` is called with each trial as it ends.

    A request that fails is a trial with an error. Cancelling leaves what is done with the caller.
    """
    waiting = iter(jobs)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(concurrency):
            tasks.create_task(_work(client, waiting, model, done))


async def _work(client: openai.AsyncOpenAI, jobs: Iterator[Job], model: str, done: Callable[[Trial], None]) -> None:
    for job in jobs:
        started = time.perf_counter()
        reply, failure = None, None
        try:
            reply = reply_of(await client.chat.completions.create(**job.request(model)))
        except openai.APIError as error:
            failure = error_code(error)
        except ThinkTwiceError:
            failure = "no verification"
        done(Trial(job.row.line, job.arm, time.perf_counter() - started, reply, failure))
