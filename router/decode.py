"""Decoding: draw samples in waves, judge each as it ends, stop as soon as the plan allows, cancel the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from router.canonical import answer_key, tool_calls_key
from router.domain import Candidate, CheckResult, CheckSpec, Prompt, Sample, Tokens, VerificationSpec
from router.enums import CheckClass, Outcome, Stopped, TaskKind
from router.errors import BackendError, BackendTimeout, VerifierUnavailable
from router.fold import StreamFold
from router.plan import Plan, Tally, next_wave, stop_reason
from router.ports import Backend, Draw, Verifier
from router.sampling import batches
from router.verify.composite import compose
from router.vote import tally_votes


@dataclass(frozen=True, slots=True)
class Task:
    """One request as decoding sees it. `deadline` is in seconds of the running event loop's clock."""

    prompt: Prompt
    spec: VerificationSpec
    kind: TaskKind
    model: str
    deadline: float
    cache_salt: str | None = None

    def draw(self, first_index: int = 0, n: int = 1) -> list[tuple[int, Draw]]:
        """The upstream calls for samples `first_index` to `first_index + n`, each with its first sample's index."""
        timeout_s = max(self.deadline - asyncio.get_running_loop().time(), 0.001)
        return [
            (index, Draw(self.prompt, sampling, self.model, count, self.cache_salt, timeout_s))
            for index, count, sampling in batches(self.prompt.sampling, first_index, n)
        ]


@dataclass(slots=True)
class Decoded:
    """What decoding produced: judged candidates, samples cut short, failed draws, and what it all cost."""

    candidates: list[Candidate] = field(default_factory=list)
    unjudged: list[Sample] = field(default_factory=list)  # cut short, or ended while the group was being stopped
    failures: list[str] = field(default_factory=list)
    tokens: Tokens = Tokens()
    prompt_token_ids: tuple[int, ...] | None = None
    stopped: Stopped = Stopped.CAP

    def applying(self, plan: Plan) -> Plan:
        """`plan` for what was drawn: where every sample calls tools there is no answer yet for an oracle to judge."""
        calls = bool(self.candidates) and all(c.sample.message.get("tool_calls") for c in self.candidates)
        return replace(plan, oracle=False) if calls else plan

    def tally(self) -> Tally:
        """What the plan needs to know of it."""
        return Tally(
            spent=len(self.candidates) + len(self.failures),
            verified=any(candidate.verdict.verified for candidate in self.candidates),
            votes=tally_votes(self.candidates),
        )


class Decoder:
    """Draws from a backend and judges with a verifier."""

    def __init__(self, backend: Backend, verifier: Verifier) -> None:
        self._backend, self._verifier = backend, verifier

    async def judge(self, task: Task, sample: Sample) -> Candidate:
        """Run the task's checks on one sample and find the answer it votes for.

        A sample cut at its token limit gives no vote: its last number is only where it happened to end. A sample that
        calls tools votes by its calls; it is a step and no answer, so that only checks with a veto read it. A verifier
        that cannot take the work makes the checks errors, never failures.
        """
        checks = task.spec.checks
        calls = sample.message.get("tool_calls")
        read = tuple(check for check in checks if not calls or check.klass is CheckClass.VETO)
        try:
            results = await self._verifier.verify(read, sample.text) if read else ()
        except VerifierUnavailable as unavailable:
            results = tuple(_not_run(check, Outcome.ERROR, str(unavailable)) for check in read)
        results += tuple(_not_run(check, Outcome.SKIPPED, "tool calls") for check in checks if check not in read)
        key = tool_calls_key(calls) if calls else answer_key(sample.text, task.kind)
        return Candidate(sample, key if sample.finish_reason != "length" else None, results, compose(results, checks))

    async def decode(self, task: Task, plan: Plan, first: Decoded | None = None) -> Decoded:
        """Sample until the plan stops, going on from `first` when a single sample is escalated.

        A wave that brought no sample because its engine failed is followed by one more: nothing of it was shown to
        anybody. Raises the engine's `BackendError` when that brings none either, and `BackendTimeout` when the deadline
        passed before the first sample.
        """
        decoded, failed = first or Decoded(), False
        try:
            async with asyncio.timeout_at(task.deadline):
                while (stopped := stop_reason(decoded.applying(plan), decoded.tally())) is None:
                    tally = decoded.tally()
                    wave = next_wave(decoded.applying(plan), tally)
                    error = await self._wave(task, plan, decoded, tally.spent, wave)
                    if error is not None and not decoded.candidates:
                        if failed or not error.engine_failed or stop_reason(plan, decoded.tally()) is not None:
                            raise error
                        failed = True
                decoded.stopped = stopped
        except TimeoutError as timeout:
            decoded.stopped = Stopped.DEADLINE
            if not decoded.candidates:
                raise BackendTimeout("no sample ended before the request's deadline") from timeout
        decoded.candidates.sort(key=lambda candidate: candidate.sample.index)
        return decoded

    async def _wave(self, task: Task, plan: Plan, decoded: Decoded, first_index: int, n: int) -> BackendError | None:
        """Draw one wave; leaves early, cancelling what still runs, once the plan stops. Returns a draw's error."""
        ended: asyncio.Queue[Candidate | BackendError | None] = asyncio.Queue()
        folds: list[StreamFold] = []
        draws = []
        for index, draw in task.draw(first_index, n):
            folds.append(StreamFold(index, draw.sampling, draw.model, draw.n))
            draws.append(asyncio.create_task(self._draw(task, draw, folds[-1], ended)))
        error: BackendError | None = None
        running = len(draws)
        try:
            while running and stop_reason(decoded.applying(plan), decoded.tally()) is None:
                match await ended.get():
                    case None:
                        running -= 1
                    case BackendError() as failure:
                        error = failure
                        decoded.failures.append(str(failure))
                    case candidate:
                        decoded.candidates.append(candidate)
        finally:
            for running_draw in draws:
                running_draw.cancel()
            await asyncio.gather(*draws, return_exceptions=True)
            decoded.candidates += [late for late in _drained(ended) if isinstance(late, Candidate)]
            _account(decoded, folds)
        for finished in draws:
            if not finished.cancelled() and (bug := finished.exception()) is not None:
                raise bug
        return error

    async def _draw(
        self, task: Task, draw: Draw, fold: StreamFold, ended: asyncio.Queue[Candidate | BackendError | None]
    ) -> None:
        """Read one upstream call to its end; judge its samples as they end, beside the reading."""
        missing = draw.n
        try:
            async with asyncio.TaskGroup() as judging:
                try:
                    async with aclosing(self._backend.stream(draw)) as chunks:
                        async for chunk in chunks:
                            for sample in fold.feed(chunk):
                                missing -= 1
                                judging.create_task(self._judge_into(task, sample, ended))
                    if missing:
                        raise BackendError(f"the engine ended its stream with {missing} of {draw.n} samples unfinished")
                except BackendError as failure:
                    for _ in range(missing):
                        ended.put_nowait(failure)
        finally:
            ended.put_nowait(None)

    async def _judge_into(
        self, task: Task, sample: Sample, ended: asyncio.Queue[Candidate | BackendError | None]
    ) -> None:
        ended.put_nowait(await self.judge(task, sample))


def _not_run(check: CheckSpec, outcome: Outcome, why: str) -> CheckResult:
    return CheckResult(check.id, check.type, check.klass, outcome, None, 0.0, check.version, why)


def _drained(queue: asyncio.Queue[Candidate | BackendError | None]) -> Iterator[Candidate | BackendError | None]:
    while not queue.empty():
        yield queue.get_nowait()


def _account(decoded: Decoded, folds: Iterable[StreamFold]) -> None:
    """Book what the calls of a wave cost, and keep every sample that was drawn and not judged."""
    judged = {candidate.sample.index for candidate in decoded.candidates}
    for fold in folds:
        decoded.tokens += fold.tokens()
        decoded.unjudged.extend(sample for sample in fold.begun() if sample.index not in judged)
        decoded.prompt_token_ids = decoded.prompt_token_ids or fold.prompt_token_ids
