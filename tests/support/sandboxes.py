"""Real sandboxes for tests, one tier each; a tier that this machine cannot have skips its tests and says why."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest

from router.enums import Tier
from router.errors import SandboxUnavailable
from router.sandbox.launch import Launcher, launcher
from router.sandbox.sandbox import Sandbox


def launcher_or_skip(tier: Tier) -> Launcher:
    """What starts sandboxes of `tier`. Skips the test where it cannot."""
    try:
        return launcher(tier)
    except SandboxUnavailable as error:
        pytest.skip(f"sandbox tier {tier.value}: {error}")


@contextlib.asynccontextmanager
async def opened(tier: Tier, *, warm: int = 1, jobs: int = 2, queue: int = 64) -> AsyncIterator[Sandbox]:
    """A sandbox of `tier`. Skips the test where there is none."""
    sandbox = Sandbox(launcher_or_skip(tier), warm=warm, jobs=jobs, queue=queue)
    try:
        try:
            await sandbox.fill()
        except SandboxUnavailable as error:
            pytest.skip(f"sandbox tier {tier.value}: {error}")
        yield sandbox
    finally:
        await sandbox.close()
