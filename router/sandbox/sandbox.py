"""Sandboxes for jobs: a few kept warm, each used once, replaced in the background."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Collection, Coroutine, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from router.enums import RunEnd, Tier
from router.errors import SandboxUnavailable
from router.sandbox.box import Box, BoxEnded
from router.sandbox.launch import Launcher, Program

_REFILL_DELAY_S = 0.01  # a start holds the event loop for some milliseconds: not between a verdict and its reader
OFF = "the sandbox is off: set [sandbox] backend"


@dataclass(frozen=True, slots=True)
class Ran:
    """How a script ended, and what it printed, both streams as they came."""

    end: RunEnd
    output: str


class Job:
    """The sandboxes of one piece of work; all of them end with it."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self.boxes: list[Box] = []

    async def open(self) -> Box:
        """Another sandbox, a warm one where there is one. Raises `SandboxUnavailable`."""
        box = await self._sandbox.take()
        self.boxes.append(box)
        return box

    async def program(self, name: str) -> Box:
        """A sandbox that has become the operator's program of that name. Raises `SandboxUnavailable`."""
        box = await self._sandbox.become(name)
        self.boxes.append(box)
        return box


class Sandbox:
    """Runs at most `jobs` jobs at a time, with at most `queue` waiting, and keeps `warm` sandboxes ready.

    Without a launcher it runs nothing, and `fault` says why.
    """

    def __init__(
        self,
        launcher: Launcher | None,
        programs: Mapping[str, Program] = MappingProxyType({}),
        *,
        warm: int = 2,
        jobs: int = 4,
        queue: int = 64,
        fault: str | None = None,
    ) -> None:
        self._launcher, self._programs = launcher, programs
        self._warm, self._queue = warm, queue
        self._slots = asyncio.Semaphore(jobs)
        self._ready: deque[Box] = deque()
        self._filling = 0
        self._waiting = 0
        self._background: set[asyncio.Task[None]] = set()
        self._open = True
        self.fault = fault  # why no job runs, in one line

    @property
    def tier(self) -> Tier | None:
        """What isolates the jobs; None where none can run."""
        return self._launcher.tier if self._launcher else None

    @property
    def programs(self) -> Collection[str]:
        """The names of the operator's programs."""
        return self._programs.keys()

    @property
    def broken(self) -> bool:
        """Whether it should run jobs and cannot."""
        return self.fault is not None and self.fault != OFF

    def available(self) -> bool:
        """Whether a job handed in now would run."""
        return self._open and self.fault is None and self._waiting < self._queue

    def idle(self) -> bool:
        """Whether a job handed in now would start at once."""
        return self.available() and not self._slots.locked()

    @contextlib.asynccontextmanager
    async def job(self) -> AsyncIterator[Job]:
        """A place to work. Raises `SandboxUnavailable` when the queue is full or nothing may run."""
        if not self.available():
            raise SandboxUnavailable(self.fault or "the sandbox is busy: try again later")
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        job = Job(self)
        try:
            yield job
        finally:
            self._slots.release()
            for box in job.boxes:
                box.kill()
                self._keep(box.close())
            self._keep(self._refill())

    async def run(self, source: str, timeout_s: float) -> Ran:
        """Run a Python script. Raises `SandboxUnavailable`; whatever the script does is a result."""
        async with self.job() as job:
            box = await job.open()
            try:
                async with asyncio.timeout(timeout_s):
                    reply = await box.ask({"op": "run", "source": source})
                end = RunEnd.RAISED if "raised" in reply else RunEnd.FINISHED
            except TimeoutError:
                end = RunEnd.TIMEOUT
            except BoxEnded:
                end = RunEnd.DIED
            await box.close()
            return Ran(RunEnd.OUTPUT_LIMIT if box.overflowed else end, box.output)

    async def fill(self) -> None:
        """Start warm sandboxes until there are enough. Raises `SandboxUnavailable`."""
        while self._open and len(self._ready) + self._filling < self._warm:
            self._filling += 1
            try:
                box = await self._start()
            finally:
                self._filling -= 1
            self._ready.append(box)

    async def take(self) -> Box:
        """A sandbox for a job to use. Raises `SandboxUnavailable`."""
        while self._ready:
            box = self._ready.popleft()
            if box.alive:
                return box
            self._keep(box.close())
        return await self._start()

    async def close(self) -> None:
        """End every sandbox."""
        self._open = False
        while self._background:
            await asyncio.gather(*self._background, return_exceptions=True)
        await asyncio.gather(*(box.close() for box in self._ready))
        self._ready.clear()

    async def become(self, name: str) -> Box:
        """A sandbox, started for it, that has become a program. Raises `SandboxUnavailable`."""
        if name not in self._programs:
            raise SandboxUnavailable("no program of this name is configured")
        return await self._start(self._programs[name])

    async def _start(self, program: Program | None = None) -> Box:
        if self._launcher is None:
            raise SandboxUnavailable(self.fault or "there is no sandbox")
        return await Box.start(self._launcher, program)

    async def _refill(self) -> None:
        await asyncio.sleep(_REFILL_DELAY_S)
        with contextlib.suppress(SandboxUnavailable):  # the next job starts its own, and says what is wrong
            await self.fill()

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
