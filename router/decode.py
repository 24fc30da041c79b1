"""Decoding: draw samples in waves, judge each as it ends, stop as soon as the plan allows, cancel the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from types import MappingProxyType

from msgspec import Struct
from msgspec.structs import replace

from router.canonical import vote_key
from router.domain import Candidate, CheckResult, CheckSpec, Prompt, Sample, Tokens, Turn, VerificationSpec
from router.enums import CheckClass, Outcome, Stopped, TaskKind
from router.errors import BackendError, BackendTimeout, VerifierUnavailable
from router.fold import StreamFold
from router.plan import Plan, Tally, next_wave, stop_reason
from router.ports import Backend, Draw, Tool, Verifier
from router.sampling import batches
from router.tool_loop import cut, going_on, offering, take_turn
from router.verify.composite import compose
from router.vote import tally_evidence, tally_votes


class Task(Struct, frozen=True):
    """One request as decoding sees it. `deadline` is in seconds of the running event loop's clock."""

    prompt: Prompt
    spec: VerificationSpec
    kind: TaskKind
    model: str
    deadline: float
    cache_salt: str | None = None
    evidence: Callable[[Sample, Sequence[CheckResult]], float] | None = None  # log-odds of a sample, if calibrated

    def draw(self, first_index: int = 0, n: int = 1, turns: tuple[Turn, ...] = ()) -> list[tuple[int, Draw]]:
        """The upstream calls for samples `first_index` to `first_index + n`, each with its first sample's index.

        With `turns` it is the one call that goes on with the conversation of a single sample.
        """
        timeout_s = max(self.deadline - asyncio.get_running_loop().time(), 0.001)
        prompt = going_on(offering(self.prompt, self.spec), turns)
        return [
            (index, Draw(prompt, sampling, self.model, count, self.cache_salt, timeout_s))
            for index, count, sampling in batches(self.prompt.sampling, first_index, n)
        ]


@dataclass(slots=True)
class Decoded:
    """What decoding produced: judged candidates, samples cut short, failed draws, and what it all cost."""

    candidates: list[Candidate] = field(default_factory=list)
    unjudged: list[Sample] = field(default_factory=list)  # cut short, or ended while the group was being stopped
    failures: list[str] = field(default_factory=list)
    tokens: Tokens = Tokens()
    larger: Tokens = Tokens()  # beside those: of the larger model (`router.escalation`), which has its own price
    prompt_token_ids: tuple[int, ...] | None = None
    stopped: Stopped = Stopped.CAP

    @property
    def escalated(self) -> bool:
        """Whether the larger model's sample is among the candidates."""
        return any(candidate.vote == 0 for candidate in self.candidates)

    @property
    def billed(self) -> Tokens:
        """Tokens of all models."""
        return self.tokens + self.larger

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
            evidence=tally_evidence(self.candidates),
        )


@dataclass(frozen=True, slots=True)
class _Wave:
    """What the calls of one wave bring: a queue of what ended, None for each call that did, and a fold of each call."""

    ended: asyncio.Queue[Candidate | BackendError | None] = field(default_factory=asyncio.Queue)
    folds: list[StreamFold] = field(default_factory=list)

    def drained(self) -> Iterator[Candidate | BackendError | None]:
        """What waits in the queue."""
        while not self.ended.empty():
            yield self.ended.get_nowait()

    def begun(self) -> Iterable[Sample]:
        """Every sample that has begun, each as its latest turn left it."""
        return {sample.index: sample for fold in self.folds for sample in fold.begun()}.values()


class Decoder:
    """Draws from a backend, runs the server-side tools that samples call, and judges with a verifier."""

    def __init__(self, backend: Backend, verifier: Verifier, tools: Mapping[str, Tool] = MappingProxyType({})) -> None:
        self._backend, self._verifier, self._tools = backend, verifier, tools

    async def judge(self, task: Task, sample: Sample) -> Candidate:
        """Run the task's checks on one sample and find the answer it votes for.

        A sample that calls tools is a step and no answer, so that only checks with a veto read it. A verifier that
        cannot take the work makes the checks errors, never failures.
        """
        checks = task.spec.checks
        calls = sample.message.get("tool_calls")
        read = tuple(check for check in checks if not calls or check.klass is CheckClass.VETO)
        results = await self._results([check for check in read if check.klass is not CheckClass.VETO], sample.text)
        results += await self._results([check for check in read if check.klass is CheckClass.VETO], sample.shown)
        results += tuple(_not_run(check, Outcome.SKIPPED, "tool calls") for check in checks if check not in read)
        key = vote_key(sample, task.kind, results)
        evidence = task.evidence(sample, results) if task.evidence else 0.0
        return Candidate(sample, key, results, compose(results, checks), evidence)

    async def _results(self, checks: Sequence[CheckSpec], text: str) -> tuple[CheckResult, ...]:
        try:
            return await self._verifier.verify(checks, text) if checks else ()
        except VerifierUnavailable as unavailable:
            return tuple(_not_run(check, Outcome.ERROR, str(unavailable)) for check in checks)

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
        wave = _Wave()
        draws = []
        for index, draw in task.draw(first_index, n):
            fold = StreamFold(index, draw.sampling, draw.model, draw.n)
            wave.folds.append(fold)
            draws.append(asyncio.create_task(self._draw(task, draw, fold, wave)))
        error: BackendError | None = None
        running = len(draws)
        try:
            while running and stop_reason(decoded.applying(plan), decoded.tally()) is None:
                match await wave.ended.get():
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
            decoded.candidates += [late for late in wave.drained() if isinstance(late, Candidate)]
            _account(decoded, wave)
        for finished in draws:
            if not finished.cancelled() and (bug := finished.exception()) is not None:
                raise bug
        return error

    async def _draw(self, task: Task, draw: Draw, fold: StreamFold, wave: _Wave) -> None:
        """Read one upstream call to its end; go on with its samples as they end, beside the reading."""
        missing = draw.n
        try:
            async with asyncio.TaskGroup() as following:
                try:
                    async with aclosing(self._backend.stream(draw)) as chunks:
                        async for chunk in chunks:
                            for sample in fold.feed(chunk):
                                missing -= 1
                                following.create_task(self._finish(task, sample, wave))
                    if missing:
                        raise BackendError(f"the engine ended its stream with {missing} of {draw.n} samples unfinished")
                except BackendError as failure:
                    for _ in range(missing):
                        wave.ended.put_nowait(failure)
        finally:
            wave.ended.put_nowait(None)

    async def _finish(self, task: Task, sample: Sample, wave: _Wave) -> None:
        """Bring one sample to its answer, and judge that."""
        try:
            answered = await self._answered(task, sample, wave)
        except BackendError as failure:
            wave.ended.put_nowait(failure)
        else:
            wave.ended.put_nowait(await self.judge(task, answered))

    async def _answered(self, task: Task, sample: Sample, wave: _Wave) -> Sample:
        """The sample at the end of its conversation: server-side tools are run as long as it calls them.

        One that was cut at its token limit, or has no turn left, ends as `router.tool_loop.cut` says.
        """
        while task.spec.tools and sample.message.get("tool_calls"):
            if sample.finish_reason == "length" or len(sample.turns) + 1 >= task.spec.max_turns:
                return cut(sample)
            turns = (*sample.turns, await take_turn(sample, task.spec, self._tools))
            [(index, draw)] = task.draw(sample.index, turns=turns)
            fold = StreamFold(index, draw.sampling, draw.model, turns=turns)
            wave.folds.append(fold)
            ended: list[Sample] = []
            async with aclosing(self._backend.stream(draw)) as chunks:
                async for chunk in chunks:
                    ended += fold.feed(chunk)
            if not ended:
                raise BackendError("the engine ended its stream before the sample's next turn did")
            [sample] = ended
        return sample


def _not_run(check: CheckSpec, outcome: Outcome, why: str) -> CheckResult:
    return CheckResult(check.id, check.type, check.klass, outcome, None, 0.0, check.version, why)


def _account(decoded: Decoded, wave: _Wave) -> None:
    """Book what the calls of a wave cost, and keep every sample that was drawn and not judged."""
    judged = {candidate.sample.index for candidate in decoded.candidates}
    decoded.unjudged.extend(sample for sample in wave.begun() if sample.index not in judged)
    for fold in wave.folds:
        decoded.tokens += fold.tokens()
        if not fold.turns:
            decoded.prompt_token_ids = decoded.prompt_token_ids or fold.prompt_token_ids
