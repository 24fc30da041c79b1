"""Driving a gateway: every row under every policy, in an order in which drift of the machine cancels."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import openai

from gateway.bench.rows import Row
from gateway.client import Reply, error_code, reply_of
from router.domain import MAX_SAMPLES
from router.enums import Status
from router.errors import ThinkTwiceError

# Sample bounds that a policy forces; None leaves the row's verification, and the choice to the router.
POLICIES: Mapping[str, Mapping[str, int] | None] = {
    "always-1": {"min": 1, "max": 1},
    "always-5": {"min": MAX_SAMPLES, "max": MAX_SAMPLES},
    "auto": None,
}
_HEADERS = {"Cache-Control": "no-store", "X-Thinktwice-Purpose": "eval"}


@dataclass(frozen=True, slots=True)
class Trial:
    """One row under one policy: a reply, or the short name of an error."""

    row: int  # line of the data file
    policy: str
    wall_s: float
    reply: Reply | None
    error: str | None = None

    @property
    def solved(self) -> bool:
        """Whether the gateway returned a verified answer; an error solves nothing."""
        return self.reply is not None and self.reply.verification["status"] == Status.VERIFIED


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send."""

    rows: Sequence[Row]
    policies: Sequence[str]
    model: str
    max_tokens: int | None = None
    seed: int = 0
    concurrency: int = 4

    def jobs(self) -> list[tuple[Row, str]]:
        """Row after row, the policies of each in a random order of their own."""
        rng = random.Random(self.seed)
        return [(row, policy) for row in self.rows for policy in rng.sample(self.policies, k=len(self.policies))]


def request_body(row: Row, policy: str, plan: Plan) -> dict[str, Any]:
    """The SDK call's arguments of one trial: never cached, kept out of training and scorecard."""
    bounds = POLICIES[policy]
    verification = {**row.verification, **({"samples": bounds} if bounds else {})}
    body: dict[str, Any] = {
        "model": plan.model,
        "messages": list(row.messages),
        "extra_headers": _HEADERS,
        "extra_body": {"verification": verification},
    }
    if plan.max_tokens is not None:
        body["max_tokens"] = plan.max_tokens
    return body


async def drive(client: openai.AsyncOpenAI, plan: Plan, done: Callable[[Trial], None]) -> None:
    """Run the plan with `plan.concurrency` requests at a time; `done` is called with each trial as it ends.

    A request that fails is a trial with an error. Cancelling leaves what is done with the caller.
    """
    jobs = iter(plan.jobs())
    async with asyncio.TaskGroup() as tasks:
        for _ in range(plan.concurrency):
            tasks.create_task(_work(client, plan, jobs, done))


async def _work(
    client: openai.AsyncOpenAI, plan: Plan, jobs: Iterator[tuple[Row, str]], done: Callable[[Trial], None]
) -> None:
    for row, policy in jobs:
        started = time.perf_counter()
        reply, failure = None, None
        try:
            reply = reply_of(await client.chat.completions.create(**request_body(row, policy, plan)))
        except openai.APIError as error:
            failure = error_code(error)
        except ThinkTwiceError:
            failure = "no verification"
        done(Trial(row.line, policy, time.perf_counter() - started, reply, failure))
