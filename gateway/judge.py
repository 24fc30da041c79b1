"""The `judge` check: an engine's model grades answers, and only while it withstands the suite of traps."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.telemetry.metrics import Metrics
from router.domain import CheckResult, CheckSpec, EngineInfo
from router.errors import BackendError, InvalidRequest
from router.fold import completion_tokens
from router.ports import Backend, Draw, Verifier
from router.verify.check_type import Judgement, failed, undecided
from router.verify.checks.judge import TYPE
from router.verify.judge_suite import RUBRIC, traps
from router.verify.judging import PASS_MARK, grade_of, judge_prompt, shown

_AT_ONCE = 4  # traps shown to the judge at a time
_LOOK_S = 10.0  # between looks at whether the engine is still the one that was examined
_TRAP_TIMEOUT_S = 30.0

_log = logging.getLogger(__name__)


class Judge:
    """A model that grades. It is examined before it is first asked, and again whenever its engine changed."""

    def __init__(self, backend: Backend, model: str, metrics: Metrics, engine: Callable[[], EngineInfo]) -> None:
        self._backend, self._model, self._metrics, self._engine = backend, model, metrics, engine
        self._examined: EngineInfo | None = None
        self._fell_for = 0  # traps that it passed at its last examination

    @property
    def healthy(self) -> bool:
        """Whether it withstood every trap on the engine that serves now."""
        return self._fell_for == 0 and self._examined == self._engine()

    async def grade(self, rubric: str, question: str, text: str, timeout_s: float) -> Judgement:
        """Its word on one answer. A judge that is not healthy decides nothing."""
        if not self.healthy:
            return undecided("the judge is disabled: it has not withstood its examination")
        return await self._ask(rubric, question, text, timeout_s)

    async def run(self) -> None:
        """Examine the judge now and after every change of its engine, until cancelled."""
        while True:
            if self._engine().models and self._examined != self._engine():
                await self.examine()
            await asyncio.sleep(_LOOK_S)

    async def examine(self) -> None:
        """Show it every trap. One that gets the pass mark, or no grade, disables it."""
        engine, turn = self._engine(), asyncio.Semaphore(_AT_ONCE)

        async def fell_for(question: str, answer: str) -> bool | None:
            async with turn:
                found = await self._ask(RUBRIC, question, answer, _TRAP_TIMEOUT_S)
            return None if found.score is None else found.score >= PASS_MARK

        suite = list(traps())
        falls = await asyncio.gather(*(fell_for(trap.question, trap.answer) for trap in suite))
        if None in falls:  # the engine did not grade: it is asked again at the next look
            _log.warning("the judge %s could not be examined: %d traps got no grade", self._model, falls.count(None))
        else:
            self._fell_for, self._examined = sum(map(bool, falls)), engine
            if self._fell_for:
                _log.error(
                    "the judge %s is disabled: it passed %d of %d traps", self._model, self._fell_for, len(suite)
                )
            self._metrics.set_judge_traps(self._fell_for)

    async def _ask(self, rubric: str, question: str, text: str, timeout_s: float) -> Judgement:
        answer = shown(text)
        if answer is None:
            return failed("the answer has no content to grade")
        prompt = judge_prompt(rubric, question, answer, secrets.token_hex(8))
        try:
            async with asyncio.timeout(timeout_s):
                completion = await self._backend.complete(
                    Draw(prompt, prompt.sampling, self._model, timeout_s=timeout_s)
                )
        except (BackendError, TimeoutError):
            return undecided("the judge did not answer")
        self._metrics.observe_judge(completion_tokens(completion))
        return grade_of(completion)


class JudgingVerifier:
    """`router.ports.Verifier`: `judge` checks are graded, the others are left to the verifier behind it."""

    def __init__(self, inner: Verifier, judge: Judge | None) -> None:
        self._inner, self._judge = inner, judge

    async def verify(self, checks: Sequence[CheckSpec], text: str) -> tuple[CheckResult, ...]:
        """One result a check, in the order given."""
        others = [check for check in checks if check.type != TYPE.name]
        asked = [check for check in checks if check.type == TYPE.name]
        found, graded = await asyncio.gather(
            self._inner.verify(others, text), asyncio.gather(*(self._grade(check, text) for check in asked))
        )
        results = {result.id: result for result in (*found, *graded)}
        return tuple(results[check.id] for check in checks)

    def available(self, checks: Sequence[CheckSpec]) -> bool:
        """Whether these checks would run now; a judge that is not required need not be healthy."""
        others = [check for check in checks if check.type != TYPE.name]
        asked = [check for check in checks if check.type == TYPE.name]
        if asked and self._judge is None:
            raise InvalidRequest("no judge is configured here: [judge] model", "verification.checks", "no_judge")
        healthy = self._judge is not None and self._judge.healthy
        return self._inner.available(others) and (healthy or not any(check.required for check in asked))

    def idle(self) -> bool:
        """Whether checks handed in now would start at once."""
        return self._inner.idle()

    @property
    def down(self) -> tuple[str, ...]:
        """The parts that do not work: a judge that is disabled is one."""
        disabled = self._judge is not None and not self._judge.healthy
        return (*self._inner.down, "judge") if disabled else self._inner.down

    async def _grade(self, check: CheckSpec, text: str) -> CheckResult:
        started = time.perf_counter()
        params: Mapping[str, Any] = check.params
        if self._judge is None:
            found = undecided("no judge is configured")
        else:
            found = await self._judge.grade(params["rubric"], params.get("question", ""), text, check.timeout_s)
        ms = (time.perf_counter() - started) * 1000
        return CheckResult(
            check.id, check.type, check.klass, found.outcome, found.score, ms, check.version, found.detail
        )
