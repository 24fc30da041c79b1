"""Sandboxes of both tiers: how runs end, that each is used once, that nothing is left."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from router.enums import RunEnd, Tier
from router.errors import SandboxUnavailable
from router.sandbox import canary, launch
from router.sandbox.box import MAX_OUTPUT_BYTES, Box
from router.sandbox.canary import probe
from router.sandbox.choice import open_sandbox, watch
from router.sandbox.sandbox import OFF, Sandbox
from tests.support.sandboxes import launcher_or_skip, opened

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=Tier)
async def sandbox(request: pytest.FixtureRequest) -> AsyncIterator[Sandbox]:
    async with opened(request.param) as ready:
        yield ready


async def test_a_script_prints_and_finishes(sandbox: Sandbox) -> None:
    ran = await sandbox.run("import sys, math\nprint(math.comb(5, 2))\nprint('oops', file=sys.stderr)", 60)
    assert ran.end is RunEnd.FINISHED and set(ran.output.split()) == {"10", "oops"}


@pytest.mark.parametrize(
    ("source", "end", "says"),
    [
        ("print(1)\n1/0", RunEnd.RAISED, "ZeroDivisionError"),
        ("raise SystemExit", RunEnd.FINISHED, ""),
        ("raise SystemExit(3)", RunEnd.RAISED, ""),
        ("if", RunEnd.RAISED, "SyntaxError"),
        ("while True: pass", RunEnd.TIMEOUT, ""),
        ("import os\nprint('x', flush=True)\nos._exit(0)", RunEnd.DIED, "x"),
        ("while True: print('x' * 1000)", RunEnd.OUTPUT_LIMIT, "xxx"),
        ("x = bytearray(1 << 32)", RunEnd.RAISED, "MemoryError"),
    ],
)
async def test_how_a_script_ends(sandbox: Sandbox, source: str, end: RunEnd, says: str) -> None:
    ran = await sandbox.run(source, 0.5 if end is RunEnd.TIMEOUT else 60)
    assert ran.end is end and says in ran.output and len(ran.output) <= MAX_OUTPUT_BYTES + 1


async def test_every_run_has_a_sandbox_of_its_own(sandbox: Sandbox) -> None:
    await sandbox.run("import builtins\nbuiltins.len = None", 60)
    assert (await sandbox.run("print(len('abc'))", 60)).output == "3\n"


async def test_canaries_hold(sandbox: Sandbox) -> None:
    assert await probe(sandbox) is None


async def test_a_canary_that_leaks_ends_the_sandbox_for_good(sandbox: Sandbox, tmp_path: Path) -> None:
    """The probe itself can fail: bait that every program may take is reported."""
    open_gate = (Path(launch.__file__).parent / "inside" / "canary.py").read_text()
    leaky = tmp_path / "canary.py"
    leaky.write_text(
        open_gate.replace(
            "_ESCAPES: dict[str, Callable[[dict[str, Any]], object]] = {",
            '_ESCAPES: dict[str, Callable[[dict[str, Any]], object]] = {"breathes": bool,',
        )
    )
    own, canary._SOURCE = canary._SOURCE, leaky
    try:
        async with asyncio.timeout(60):
            await watch(sandbox, interval_s=0.0)
    finally:
        canary._SOURCE = own
    assert sandbox.fault == "untrusted code breathes" and not sandbox.available()
    with pytest.raises(SandboxUnavailable, match="breathes"):
        await sandbox.run("print(1)", 1)
    sandbox.fault = None


async def test_a_probe_that_cannot_be_made_takes_the_sandbox_down_until_one_can(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine without room or descriptors: the sandbox is not known to hold, and is asked again."""
    assert sandbox.tier is not None
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "full"))
    async with open_sandbox([sandbox.tier], warm=0, jobs=1, queue=1) as down:
        assert down.tier is None and down.broken and "cannot be probed" in (down.fault or "")
    watching = asyncio.create_task(watch(sandbox, interval_s=0.01))
    try:
        async with asyncio.timeout(60):
            while sandbox.available():
                await asyncio.sleep(0.01)
            assert "cannot be probed" in (sandbox.fault or "")
            monkeypatch.undo()
            while not sandbox.available():
                await asyncio.sleep(0.01)
        assert not watching.done()
    finally:
        watching.cancel()
        await asyncio.wait([watching])


async def test_no_descriptor_left_is_no_sandbox(sandbox: Sandbox) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert sandbox._launcher is not None
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        with pytest.raises(SandboxUnavailable):
            await Box.start(sandbox._launcher)
        with pytest.raises(SandboxUnavailable):
            launch.launcher(sandbox._launcher.tier)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


async def test_a_full_queue_refuses(sandbox: Sandbox) -> None:
    small = Sandbox(sandbox._launcher, warm=0, jobs=1, queue=1)
    asked = await asyncio.gather(*(small.run("print(1)", 60) for _ in range(4)), return_exceptions=True)
    await small.close()
    assert sum(isinstance(outcome, SandboxUnavailable) for outcome in asked) == 2


async def test_kills_leave_no_process_and_no_descriptor(sandbox: Sandbox) -> None:
    await sandbox.run("print(1)", 60)
    await settled(sandbox)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        assert (await sandbox.run("while True: pass", 0.05)).end is RunEnd.TIMEOUT
    await settled(sandbox)
    async with asyncio.timeout(60):
        while leftovers():
            await asyncio.sleep(0.05)
    assert len(os.listdir("/proc/self/fd")) <= before


async def settled(sandbox: Sandbox) -> None:
    """Wait until what was used is gone and its replacement is there."""
    while sandbox._background:
        await asyncio.gather(*sandbox._background)


def leftovers() -> list[str]:
    """Zombies: children of this process, and inits of sandboxes that its death or bubblewrap's left to the system."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            name, _, rest = Path("/proc", entry, "stat").read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue
        state, parent = rest.split()[:2]
        if state == "Z" and (int(parent) == os.getpid() or (parent == "1" and name == "bwrap")):
            found.append(entry)
    return found


async def test_a_cancelled_start_leaves_nothing(sandbox: Sandbox) -> None:
    assert sandbox._launcher is not None
    starting = asyncio.create_task(Box.start(sandbox._launcher))
    await asyncio.sleep(0.02)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting


async def test_a_tier_that_cannot_be_had_has_no_weaker_successor(monkeypatch: pytest.MonkeyPatch) -> None:
    launcher_or_skip(Tier.LANDLOCK)
    monkeypatch.setattr(launch.shutil, "which", lambda name: None if name == "bwrap" else f"/usr/bin/{name}")
    async with open_sandbox([Tier.BWRAP], warm=0, jobs=1, queue=1) as down:
        assert (
            down.tier is None and down.broken and not down.available() and down.fault == "bwrap: bwrap is not installed"
        )
        with pytest.raises(SandboxUnavailable):
            await down.run("print(1)", 1)
    async with open_sandbox(tuple(Tier), warm=0, jobs=1, queue=1) as weaker:
        assert weaker.tier is Tier.LANDLOCK and weaker.available()
    async with open_sandbox((), warm=0, jobs=1, queue=1) as off:
        assert off.fault == OFF and not off.broken and not off.available()


PARENT = """
import asyncio, sys
from router.enums import Tier
from router.sandbox.launch import launcher
from router.sandbox.sandbox import Sandbox
async def main():
    sandbox = Sandbox(launcher(Tier(sys.argv[1])), warm=1)
    await sandbox.fill()
    print(*(box.pid for box in sandbox._ready), flush=True)
    await sandbox.run("import time\\ntime.sleep(99)", 60)
asyncio.run(main())
"""


async def test_no_sandbox_outlives_a_killed_parent(sandbox: Sandbox) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(sandbox.tier), stdout=asyncio.subprocess.PIPE, cwd=Path.cwd()
    )
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert len(children) == (1 if sandbox.tier is Tier.BWRAP else 0)
    parent.kill()
    await parent.wait()
    async with asyncio.timeout(60):
        while any(running(int(each)) for each in (pid, *children)):
            await asyncio.sleep(0.05)


def running(pid: int) -> bool:
    """Whether a process is there and is no zombie that only waits for the system's init."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
