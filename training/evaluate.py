"""Asking candidate and champion the same questions over the gateway's HTTP, in an order in which drift cancels."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import openai

from router.errors import TrainingError
from router.questions import Question
from training.http_client import Answer, NoAnswer, ask, connect, served_names

_HEADERS = {"Cache-Control": "no-store", "X-Thinktwice-Purpose": "eval"}
_PINNED = re.compile(r"policy-\d+-[0-9a-f]{8}")
_LOOKS, _LOOK_EVERY_S = 7, 0.5  # gateways read the registry once a second; one that is slow to read is slow to answer


class Arm(StrEnum):
    """The sides of the comparison."""

    CANDIDATE = "candidate"
    CHAMPION = "champion"


@dataclass(frozen=True, slots=True)
class Trial:
    """One question asked of one arm: an answer that the checks judged, or the short name of an error."""

    line: int
    arm: Arm
    answer: Answer | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What to ask. `names` are the arms' model names at the gateway: a policy pins one, an alias may be anyone.

    With one arm there is nothing to compare; it is scored.
    """

    questions: Sequence[Question]
    names: Mapping[Arm, str]
    samples: int = 1
    seed: int = 0
    max_tokens: int | None = None
    concurrency: int = 4

    def jobs(self) -> list[tuple[Question, Arm]]:
        """Every question of each arm, the questions in a random order and the arms of each in another."""
        rng = random.Random(self.seed)
        shuffled = rng.sample(self.questions, k=len(self.questions))
        return [(question, arm) for question in shuffled for arm in rng.sample(tuple(self.names), k=len(self.names))]

    def body(self, question: Question, arm: Arm) -> dict[str, Any]:
        """The SDK call's arguments. The arms share a seed, which a run over more questions gives them again."""
        samples = {"min": self.samples, "max": self.samples}
        verification = {**question.verification, "samples": samples, "on_failure": "return"}
        body: dict[str, Any] = {
            "model": self.names[arm],
            "messages": list(question.messages),
            "seed": random.Random(f"{self.seed}:{question.line}").randrange(2**31),
            "extra_headers": _HEADERS,
            "extra_body": {"verification": verification},
        }
        return body if self.max_tokens is None else body | {"max_tokens": self.max_tokens}


@dataclass(slots=True)
class _Run:
    """The trials of a run under way, and which policy answered for each arm."""

    plan: Plan
    done: Callable[[Trial], None]
    served: dict[Arm, str]
    trials: list[Trial] = field(default_factory=list)

    async def work(self, client: openai.AsyncOpenAI, jobs: Iterator[tuple[Question, Arm]]) -> None:
        for question, arm in jobs:
            trial = await self._ask(client, question, arm)
            self.trials.append(trial)
            self.done(trial)

    async def _ask(self, client: openai.AsyncOpenAI, question: Question, arm: Arm) -> Trial:
        try:
            answer = await ask(client, self.plan.body(question, arm))
        except NoAnswer as error:
            return Trial(question.line, arm, None, str(error))
        self._check_policy(arm, answer.policy)
        if answer.solved is None:
            return Trial(question.line, arm, None, answer.reason)
        return Trial(question.line, arm, answer)

    def _check_policy(self, arm: Arm, policy: str) -> None:
        name, expected = self.plan.names[arm], self.served.setdefault(arm, policy)
        if policy != expected:
            raise TrainingError(
                f"asked for {name}, the gateway answered with {policy}, not {expected}, so there is no verdict: "
                "run it again while no policy is promoted or rolled back"
            )
        if len(self.served) > len(set(self.served.values())):
            raise TrainingError(f"{' and '.join(self.plan.names.values())} are both {policy}: nothing to compare")


async def evaluate(url: str, plan: Plan, done: Callable[[Trial], None]) -> tuple[dict[Arm, str], list[Trial]]:
    """Ask everything; returns the policy that answered for each arm, and the trials. `done` is called with each trial.

    Raises `ConfigError` for a bad `url`, and `TrainingError` when there is no gateway or it does not serve a policy,
    when another policy answered than was asked for, and when no question was answered by both.
    """
    pinned = {arm: name for arm, name in plan.names.items() if _PINNED.fullmatch(name)}
    run, jobs = _Run(plan, done, pinned), iter(plan.jobs())
    failures: Sequence[BaseException] = ()
    async with connect(url) as client:
        await _until_served(client, frozenset(plan.names.values()))
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(plan.concurrency):
                    tasks.create_task(run.work(client, jobs))
        except* TrainingError as group:
            failures = group.exceptions
    if failures:
        raise failures[0]
    return run.served, run.trials


async def _until_served(client: openai.AsyncOpenAI, names: frozenset[str]) -> None:
    """Return once the gateway knows the names: a policy may have been registered a moment ago."""
    for look in range(_LOOKS):
        if look:
            await asyncio.sleep(_LOOK_EVERY_S)
        if not (unknown := sorted(names - await served_names(client))):
            return
    raise TrainingError(f"the gateway does not serve {', '.join(unknown)}: `thinktwice policies` lists all")
