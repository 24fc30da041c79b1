"""The parent's end of one worker process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Sequence

import msgspec

from router.domain import CheckSpec
from router.errors import VerifierUnavailable
from router.verify.protocol import HEADER, MAX_RESULT_BYTES, Job, Ready, Report, Task, frame
from router.verify.versions import runs

ADDRESS_SPACE_MIB = 1024
START_TIMEOUT_S = 60.0  # a cold start imports sympy: about 1 s on a quiet machine
_CPU_MARGIN_S = 5.0


class WorkerDied(Exception):
    """The worker ended, or said something that is not its protocol."""


class WorkerProcess:
    """One running worker; it serves one job at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._process = process
        self._stdin, self._stdout = process.stdin, process.stdout
        self._ready = msgspec.json.Decoder(Ready)
        self._report = msgspec.json.Decoder(Report)
        self.jobs = 0
        self.peak_rss_bytes = 0

    @classmethod
    async def spawn(cls, address_space_mib: int = ADDRESS_SPACE_MIB) -> WorkerProcess:
        """Start a worker and wait until it is warm. Raises `VerifierUnavailable`."""
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-I", "-m", "router.verify.worker", str(address_space_mib), str(os.getpid())),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={"PATH": os.defpath, "LANG": "C.UTF-8"},
                cwd="/",
                close_fds=True,
                start_new_session=True,
            )
        except OSError as error:
            raise VerifierUnavailable(f"a verification worker cannot be started: {error.strerror}") from error
        worker = cls(process)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                worker._ready.decode(await worker._read())
        except (TimeoutError, WorkerDied, msgspec.MsgspecError) as error:
            await worker.kill()
            raise VerifierUnavailable("a verification worker did not start") from error
        except BaseException:  # cancelled while it warms up
            await worker.kill()
            raise
        return worker

    @property
    def pid(self) -> int:
        """Process id, which is also its session's."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process has not ended, as far as we know."""
        return self._process.returncode is None

    async def submit(self, number: int, checks: Sequence[CheckSpec], text: str) -> None:
        """Hand over one job. Raises `WorkerDied`."""
        self.jobs += 1
        cpu_s = sum(check.timeout_s for check in checks) + _CPU_MARGIN_S
        tasks = [Task(runs(check), dict(check.params)) for check in checks]
        self._stdin.write(frame(Job(number, text, tasks, cpu_s)))
        try:
            await self._stdin.drain()
        except ConnectionError as error:
            raise WorkerDied from error

    async def report(self) -> Report:
        """The next report. Raises `WorkerDied`."""
        try:
            report = self._report.decode(await self._read())
        except msgspec.MsgspecError as error:
            raise WorkerDied from error
        self.peak_rss_bytes = report.peak_rss_bytes
        return report

    async def kill(self) -> None:
        """End the process and reap it."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._stdin.close()
        await self._process.wait()

    async def _read(self) -> bytes:
        try:
            (length,) = HEADER.unpack(await self._stdout.readexactly(HEADER.size))
            if length > MAX_RESULT_BYTES:
                raise WorkerDied
            return await self._stdout.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise WorkerDied from error
