"""A pool of warm workers that run the pure checks apart from the serving process.

The parent holds every deadline and kills; a killed or dead worker is replaced in the background. A worker that a
cancelled caller left in the middle of a job is killed, so no report can reach another caller.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from router.domain import CheckResult, CheckSpec
from router.enums import Outcome
from router.errors import VerifierUnavailable
from router.verify.limits import MAX_TEXT_CHARS
from router.verify.process import ADDRESS_SPACE_MIB, WorkerDied, WorkerProcess
from router.verify.protocol import Report

_RESPAWN_DELAYS_S = (0.0, 0.2, 1.0, 5.0)
_ACQUIRE_TIMEOUT_S = 60.0  # only when every worker is gone and none can be started
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """When a worker is replaced (after `jobs` it serves on until its successor is warm), and its address space."""

    jobs: int = 100
    peak_rss_bytes: int = 300 * _MIB
    address_space_mib: int = ADDRESS_SPACE_MIB


class WorkerPool:
    """`workers` processes, one job each at a time, and at most `queue` candidates waiting, first come first served."""

    def __init__(self, workers: int = 2, queue: int = 64, limits: WorkerLimits = WorkerLimits()) -> None:
        self._size = workers
        self._queue = queue
        self._limits = limits
        self._idle: asyncio.Queue[WorkerProcess] = asyncio.Queue()
        self._live: set[WorkerProcess] = set()
        self._worn: dict[WorkerProcess, bool] = {}  # over its number of jobs, and whether its successor is there
        self._waiting = 0
        self._numbers = itertools.count()
        self._background: set[asyncio.Task[None]] = set()
        self._open = False
        self._failing = False  # the last attempt to start a worker failed

    async def start(self) -> None:
        """Start all workers and wait until they are warm. Raises `VerifierUnavailable` when one cannot be started."""
        self._open = True
        started = await asyncio.gather(*(self._spawn() for _ in range(self._size)), return_exceptions=True)
        failures = [outcome for outcome in started if isinstance(outcome, BaseException)]
        if failures:
            await self.close()
            raise failures[0]

    async def close(self) -> None:
        """End every worker. Candidates still in work get an error."""
        self._open = False
        for task in tuple(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await asyncio.gather(*(worker.kill() for worker in tuple(self._live)))
        self._live.clear()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def available(self) -> bool:
        """Whether a check handed in now would run: the queue has room, and a worker lives or is being replaced."""
        works = not self._failing or any(worker.alive for worker in self._live)
        return self._open and works and self._waiting < self._queue

    def idle(self) -> bool:
        """Whether a worker has nothing to do."""
        return not self._idle.empty()

    async def verify(self, checks: Sequence[CheckSpec], text: str) -> tuple[CheckResult, ...]:
        """One result a check, in the order given. Raises `VerifierUnavailable` when the queue is full or none works."""
        if not checks:
            return ()
        if not self.available():
            raise VerifierUnavailable("no verification worker is free: try again later")
        if len(text) > MAX_TEXT_CHARS:
            return tuple(_undecided(check, Outcome.ERROR, 0.0, "the text is too long to check") for check in checks)
        text = text.encode(errors="replace").decode()  # lone surrogates cannot travel as JSON
        results: list[CheckResult] = []
        while len(results) < len(checks):
            try:
                worker = await self._acquire()
            except VerifierUnavailable:
                if not results:
                    raise
                rest = checks[len(results) :]
                results += [_undecided(check, Outcome.ERROR, 0.0, "no worker was left") for check in rest]
                break
            results += await self._run(worker, checks[len(results) :], text)
        return tuple(results)

    async def _run(self, worker: WorkerProcess, checks: Sequence[CheckSpec], text: str) -> list[CheckResult]:
        """Run `checks` on `worker` up to its end or its death; the check it died of has its result here."""
        results: list[CheckResult] = []
        number = next(self._numbers)
        healthy = False
        try:
            started = time.perf_counter()
            for index, check in enumerate(checks):
                async with asyncio.timeout(check.timeout_s):
                    if index == 0:
                        await worker.submit(number, checks, text)
                    report = await worker.report()
                if (report.number, report.index) != (number, index):
                    raise WorkerDied
                results.append(_completed(check, report))
                started = time.perf_counter()
            healthy = True
        except TimeoutError:
            results.append(_ended(checks[len(results)], Outcome.TIMEOUT, started, "over its deadline"))
        except WorkerDied:
            results.append(_ended(checks[len(results)], Outcome.ERROR, started, "the worker died"))
        finally:
            self._release(worker, healthy)
        return results

    async def _acquire(self) -> WorkerProcess:
        if not self._open:
            raise VerifierUnavailable("verification is shutting down")
        while True:
            self._waiting += 1
            try:
                async with asyncio.timeout(_ACQUIRE_TIMEOUT_S):
                    worker = await self._idle.get()
            except TimeoutError as error:
                raise VerifierUnavailable("no verification worker can be started") from error
            finally:
                self._waiting -= 1
            if worker.alive:
                return worker
            self._release(worker, healthy=False)
            if not self._open:
                raise VerifierUnavailable("verification is shutting down")

    def _release(self, worker: WorkerProcess, healthy: bool) -> None:
        """Take a worker back: idle again, or replaced when it is worn, or ended when its successor is there."""
        if not self._open or not healthy or worker.peak_rss_bytes >= self._limits.peak_rss_bytes:
            self._keep(self._end(worker, replace=worker not in self._worn))
        elif self._worn.get(worker):
            self._keep(self._end(worker, replace=False))
        else:
            self._idle.put_nowait(worker)
            if worker.jobs >= self._limits.jobs and worker not in self._worn:
                self._worn[worker] = False
                self._keep(self._succeed(worker))

    async def _end(self, worker: WorkerProcess, *, replace: bool) -> None:
        await worker.kill()
        self._live.discard(worker)
        self._worn.pop(worker, None)
        if replace:
            await self._respawn()

    async def _succeed(self, worker: WorkerProcess) -> None:
        """Start the successor of a worn worker, which serves until then: a cold start must not starve the queue."""
        await self._respawn()
        if worker not in self._worn:  # it died meanwhile
            return
        self._worn[worker] = True
        idle = [self._idle.get_nowait() for _ in range(self._idle.qsize())]
        for other in idle:
            if other is not worker:
                self._idle.put_nowait(other)
        if worker in idle:
            await self._end(worker, replace=False)

    async def _respawn(self) -> None:
        for delay_s in itertools.chain(_RESPAWN_DELAYS_S, itertools.repeat(_RESPAWN_DELAYS_S[-1])):
            if not self._open:
                return
            await asyncio.sleep(delay_s)
            try:
                await self._spawn()
                return
            except VerifierUnavailable:
                self._failing = True

    async def _spawn(self) -> None:
        worker = await WorkerProcess.spawn(self._limits.address_space_mib)
        self._live.add(worker)
        self._failing = False
        self._idle.put_nowait(worker)

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _completed(check: CheckSpec, report: Report) -> CheckResult:
    return CheckResult(
        id=check.id,
        type=check.type,
        klass=check.klass,
        outcome=report.outcome,
        score=report.score,
        ms=report.ms,
        version=check.version,
        detail=report.detail,
        coverage=report.coverage,
    )


def _ended(check: CheckSpec, outcome: Outcome, started: float, detail: str) -> CheckResult:
    return _undecided(check, outcome, (time.perf_counter() - started) * 1000, detail)


def _undecided(check: CheckSpec, outcome: Outcome, ms: float, detail: str) -> CheckResult:
    return CheckResult(check.id, check.type, check.klass, outcome, None, ms, check.version, detail)
