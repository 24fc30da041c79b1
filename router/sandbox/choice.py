"""Which sandbox serves: the strongest tier whose canaries hold, found at the start and held to it every minute."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from types import MappingProxyType

from router.enums import Tier
from router.errors import SandboxUnavailable
from router.sandbox.canary import probe
from router.sandbox.launch import Program, launcher
from router.sandbox.sandbox import OFF, Sandbox

PROBE_INTERVAL_S = 60.0

_log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def open_sandbox(
    tiers: Sequence[Tier], programs: Mapping[str, Program] = MappingProxyType({}), *, warm: int, jobs: int, queue: int
) -> AsyncIterator[Sandbox]:
    """The first of `tiers` that holds, warm; else one that runs nothing and says why. There is no weaker fallback."""
    faults = []
    for tier in tiers:
        try:
            sandbox = Sandbox(launcher(tier), programs, warm=warm, jobs=jobs, queue=queue)
            fault = await probe(sandbox)
        except SandboxUnavailable as error:
            fault = str(error)
        if fault is None:
            break
        faults.append(f"{tier.value}: {fault}")
    else:
        sandbox = Sandbox(None, programs, fault="; ".join(faults) or OFF)
    if faults:
        _log.warning("sandbox %s", "; ".join(faults))
    watching = asyncio.create_task(watch(sandbox)) if sandbox.tier else None
    try:
        yield sandbox
    finally:
        if watching is not None:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
        await sandbox.close()


async def watch(sandbox: Sandbox, interval_s: float = PROBE_INTERVAL_S) -> None:
    """Fill the sandbox and probe it once an interval. What cannot start may come back; what leaked stays down."""
    leak = None
    while leak is None:
        try:
            await sandbox.fill()
            await asyncio.sleep(interval_s)
            sandbox.fault = leak = await probe(sandbox)
        except SandboxUnavailable as error:
            sandbox.fault = str(error)
            await asyncio.sleep(interval_s)
        if sandbox.fault is not None:
            _log.error("the sandbox is down: %s", sandbox.fault)
