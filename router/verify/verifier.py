"""The one verifier: pure checks go to the worker processes, the others to the sandbox (`router.ports.Verifier`)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from router.domain import CheckResult, CheckSpec
from router.errors import InvalidRequest, SandboxUnavailable
from router.sandbox.choice import open_sandbox
from router.sandbox.launch import Program
from router.sandbox.sandbox import Sandbox
from router.verify.check_type import Judgement, undecided
from router.verify.checks import command
from router.verify.limits import MAX_TEXT_CHARS
from router.verify.pool import WorkerPool
from router.verify.registry import SANDBOXED_TYPES
from router.verify.second.sandboxed import SECOND_SANDBOXED
from router.verify.versions import runs

if TYPE_CHECKING:  # the workers import this package, and pydantic has no business there
    from router.settings import SandboxSection, VerifySection

_SANDBOXED = {**SANDBOXED_TYPES, **SECOND_SANDBOXED}


class IsolatedVerifier:
    """Runs every check apart from this process."""

    def __init__(self, pool: WorkerPool, sandbox: Sandbox) -> None:
        self._pool, self._sandbox = pool, sandbox

    @property
    def sandbox(self) -> Sandbox:
        """Where checks run code, and server-side tools may."""
        return self._sandbox

    async def verify(self, checks: Sequence[CheckSpec], text: str) -> tuple[CheckResult, ...]:
        """One result a check, in the order given. Raises `VerifierUnavailable` when the workers' queue is full."""
        pure = [check for check in checks if check.type not in _SANDBOXED]
        results = {result.id: result for result in await self._pool.verify(pure, text)}
        sandboxed = [check for check in checks if check.type in _SANDBOXED]
        for result in await asyncio.gather(*(self._run(check, text) for check in sandboxed)):
            results[result.id] = result
        return tuple(results[check.id] for check in checks)

    def available(self, checks: Sequence[CheckSpec]) -> bool:
        """Whether these checks would run now. Raises `InvalidRequest` for a command that is not configured."""
        for check in checks:
            if check.type == command.TYPE.name and check.params["name"] not in self._sandbox.programs:
                raise InvalidRequest(f"the command of check {check.id} is not configured", param="verification.checks")
        needs_sandbox = any(check.type in _SANDBOXED for check in checks)
        return self._pool.available() and (not needs_sandbox or self._sandbox.available())

    def idle(self) -> bool:
        """Whether checks of any type would start at once, as far as this machine runs them."""
        return self._pool.idle() and (self._sandbox.tier is None or self._sandbox.idle())

    @property
    def down(self) -> tuple[str, ...]:
        """The parts that do not work: `verifier`, the workers; `sandbox`, when it should be there."""
        parts = {"verifier": not self._pool.available(), "sandbox": self._sandbox.broken}
        return tuple(name for name, is_down in parts.items() if is_down)

    async def _run(self, check: CheckSpec, text: str) -> CheckResult:
        started = time.perf_counter()
        found = await self._judge(check, text)
        ms = (time.perf_counter() - started) * 1000
        return CheckResult(
            check.id, check.type, check.klass, found.outcome, found.score, ms, check.version, found.detail, found.key
        )

    async def _judge(self, check: CheckSpec, text: str) -> Judgement:
        if len(text) > MAX_TEXT_CHARS:
            return undecided("the text is too long to check")
        kind = _SANDBOXED[runs(check)]
        try:
            async with self._sandbox.job() as job:
                return await kind.run(msgspec.convert(check.params, kind.params), text, job, check.timeout_s)
        except SandboxUnavailable:
            return undecided("no sandbox could be had")


@contextlib.asynccontextmanager
async def open_verifier(verify: VerifySection, sandbox: SandboxSection) -> AsyncIterator[IsolatedVerifier]:
    """A running verifier. Raises `VerifierUnavailable` when no worker starts; without a sandbox it is only `down`."""
    programs = {name: Program(each.argv, each.readable) for name, each in sandbox.commands.items()}
    opening = open_sandbox(sandbox.tiers, programs, warm=sandbox.warm, jobs=sandbox.jobs, queue=sandbox.queue)
    workers = WorkerPool(workers=verify.workers, queue=verify.queue)
    async with contextlib.AsyncExitStack() as stack:
        pool = asyncio.create_task(stack.enter_async_context(workers))
        isolated = asyncio.create_task(stack.enter_async_context(opening))
        await asyncio.gather(pool, isolated, return_exceptions=True)  # what has started is closed if the other fails
        yield IsolatedVerifier(pool.result(), isolated.result())
