"""A judged problem, and the views of it that policies get: with its oracle, or with the vote alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from router.canonical import vote_key
from router.difficulty import detect_task
from router.domain import Candidate, CheckResult, CheckSpec, Prompt, Sample, VerificationSpec
from router.enums import CheckClass, TaskKind
from router.errors import ConfigError
from router.simulation.bank import BankRow
from router.verify.composite import compose

Verify: TypeAlias = Callable[[Sequence[CheckSpec], str], Awaitable[tuple[CheckResult, ...]]]


@dataclass(frozen=True, slots=True)
class Problem:
    """A prompt with its judged samples. `solved` is the truth about each, whether or not its checks are in view."""

    id: str
    prompt: Prompt
    spec: VerificationSpec
    kind: TaskKind
    prompt_tokens: int
    samples: tuple[Candidate, ...]
    solved: tuple[bool, ...]
    tenant: str = ""  # a digest of its name (`router.calibration.features.tenant_digest`)

    def unchecked(self) -> Problem:
        """The same problem as a request without a decisive check would see it."""
        kept = tuple(check for check in self.spec.checks if check.klass is not CheckClass.DECISIVE)
        ids = {check.id for check in kept}
        samples = []
        for candidate in self.samples:
            results = tuple(result for result in candidate.checks if result.id in ids)
            samples.append(replace(candidate, checks=results, verdict=compose(results, kept)))
        return replace(self, spec=replace(self.spec, checks=kept), samples=tuple(samples))

    def in_order(self, order: Sequence[int]) -> Problem:
        """The same problem with its samples drawn in another order."""
        samples = tuple(
            replace(self.samples[index], sample=replace(self.samples[index].sample, index=position))
            for position, index in enumerate(order)
        )
        return replace(self, samples=samples, solved=tuple(self.solved[index] for index in order))


async def judged(rows: Iterable[BankRow], verify: Verify, at_once: int = 8) -> tuple[Problem, ...]:
    """The problems of a bank with every check run on every sample, `at_once` samples at a time.

    Raises `ConfigError` when a check of the reference could not decide: such a bank would count our own failures.
    """
    places = asyncio.Semaphore(at_once)

    async def judge(row: BankRow, kind: TaskKind, sample: Sample) -> Candidate:
        async with places:
            results = await verify(row.checks, sample.text)
        return Candidate(sample, vote_key(sample, kind, results), results, compose(results, row.checks))

    async def problem(row: BankRow) -> Problem:
        kind = detect_task(row.prompt, row.checks)
        samples = tuple(await asyncio.gather(*(judge(row, kind, sample) for sample in row.samples)))
        if not all(candidate.verdict.decisive_completed for candidate in samples):
            raise ConfigError(f"a check of {row.id!r} could not be completed: run again, with fewer programs beside it")
        solved = tuple(candidate.verdict.verified for candidate in samples)
        return Problem(row.id, row.prompt, VerificationSpec(row.checks), kind, row.prompt_tokens, samples, solved)

    return tuple(await asyncio.gather(*map(problem, rows)))
