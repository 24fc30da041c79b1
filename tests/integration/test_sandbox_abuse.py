"""The abuse suite: the whole table on both tiers. None may pass unearned, hang, get out, or leave anything.

The table runs once a tier, a few at a time; each row is then a test of its own.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from router.enums import Outcome, Tier
from router.sandbox.box import Box
from router.sandbox.sandbox import Job, Sandbox
from router.sandbox.syscalls import NUMBERS
from router.verify.check_type import Judgement
from router.verify.checks.python_tests import PythonTestsParams, run
from tests.support.abuse import LATE, REPLACED, REPLACING_TESTS, TABLE, Abuse
from tests.support.sandboxes import launcher_or_skip

pytestmark = pytest.mark.asyncio(loop_scope="module")

DEADLINE_S, SLACK_S = 1.0, 0.5
HONEST_S = 10.0  # for what must come to its end
TICK_S = 0.01
AT_A_TIME = 3
SECRET = "canary-5b1e94c2"
PARAMS = msgspec.convert(
    {"entry": "f", "cases": [{"args": [1], "expect": 2}, {"args": [222_222_221], "expect": 444_444_442}]},
    PythonTestsParams,
)
# What the kernel must refuse whatever its arguments; those that are refused by their arguments have tests of their own.
FORBIDDEN = sorted(
    number
    for name, numbers in NUMBERS.items()
    if name not in ("ioctl", "prlimit64") and (number := numbers[os.uname().machine == "aarch64"]) is not None
)


class Opened(Job):
    """A job whose sandboxes are started already, so that only the candidate is timed."""

    def __init__(self, sandbox: Sandbox, boxes: list[Box]) -> None:
        super().__init__(sandbox)
        self._waiting = boxes

    async def open(self) -> Box:
        self.boxes.append(self._waiting.pop())
        return self.boxes[-1]


@dataclass(slots=True)
class Bait:
    """What nobody may reach, and what came of it."""

    folder: Path
    listener: socket.socket
    datagrams: socket.socket
    bystander: subprocess.Popen[bytes]
    bystanders: set[int] = field(default_factory=set)  # children of this process from before: engines of other tests
    uids: set[int] = field(default_factory=set)
    found: dict[str, tuple[Judgement, float]] = field(default_factory=dict)
    ticks: int = 0

    async def tick(self) -> None:
        """Count time as this process gets it: a machine that stops it for a second has not made a sandbox late."""
        while True:
            await asyncio.sleep(TICK_S)
            self.ticks += 1

    def fill_in(self, source: str) -> str:
        names = {
            "PORT": str(self.listener.getsockname()[1]),
            "FILE": str(self.folder / "secret"),
            "FOLDER": str(self.folder),
            "PID": str(self.bystander.pid),
            "SECRET": SECRET,
            "FORBIDDEN": str(FORBIDDEN),
        }
        for name, value in names.items():
            source = source.replace(name, value)
        return source


def deadline_s(row: Abuse) -> float:
    return DEADLINE_S if row.outcome is Outcome.FAIL and row.detail in ("", LATE) else HONEST_S


async def abuse(sandbox: Sandbox, row: Abuse, bait: Bait) -> None:
    job = Opened(sandbox, [await sandbox.take()])
    ticks, started = bait.ticks, time.process_time()
    found = await run(PARAMS, f"```python\n{bait.fill_in(row.source)}\n```", job, deadline_s(row))
    bait.found[row.name] = found, max((bait.ticks - ticks) * TICK_S, time.process_time() - started)
    for box in job.boxes:
        await box.close()
        assert not box.alive


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=Tier)
async def bait(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bait]:
    launcher = launcher_or_skip(request.param)
    folder = Path("/tmp") / f"thinktwice-bait-{os.getpid()}-{request.param}"
    folder.mkdir()
    folder.chmod(0o777)
    (folder / "secret").write_text(SECRET)
    (folder / "secret").chmod(0o666)
    listener, datagrams = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(listener.getsockname())
    listener.setblocking(False)
    datagrams.setblocking(False)
    bystander = subprocess.Popen(["sleep", "300"], env={"SECRET": SECRET, "PATH": os.defpath})
    laid = Bait(
        folder, listener, datagrams, bystander, {pid for pid, parent, _ in processes() if parent == os.getpid()}
    )

    def recorded(uids: list[int]) -> Iterator[int]:
        for uid in uids:
            laid.uids.add(uid)
            yield uid

    uids = [next(launcher.uids) for _ in range(2 * len(TABLE))] if os.geteuid() == 0 else []
    sandbox = Sandbox(replace(launcher, uids=recorded(uids)), warm=0)
    turns = asyncio.Semaphore(AT_A_TIME)

    async def in_turn(row: Abuse) -> None:
        async with turns:
            await abuse(sandbox, row, laid)

    ticking = asyncio.create_task(laid.tick())
    try:
        await asyncio.gather(*(in_turn(row) for row in TABLE))
        yield laid
    finally:
        ticking.cancel()
        await sandbox.close()
        bystander.kill()
        bystander.wait()
        listener.close()
        datagrams.close()
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


@pytest.mark.parametrize("row", TABLE, ids=[row.name for row in TABLE])
async def test_row(bait: Bait, row: Abuse) -> None:
    found, seconds = bait.found[row.name]
    assert found.outcome is row.outcome, found.detail
    assert row.detail in found.detail
    assert seconds < deadline_s(row) + SLACK_S


async def test_nothing_got_out_and_nothing_is_left(bait: Bait) -> None:
    for bound in (bait.listener, bait.datagrams):
        with pytest.raises(BlockingIOError):
            bound.accept() if bound is bait.listener else bound.recv(1)
    assert bait.bystander.poll() is None
    assert [file.name for file in bait.folder.iterdir()] == ["secret"]
    assert (bait.folder / "secret").read_text() == SECRET
    assert survivors(bait) == []
    assert not Path("core").exists()


def survivors(bait: Bait) -> list[int]:
    """New children of this process, and orphans of the sandboxes' users; those of other tests have parents."""
    children = {pid for pid, parent, _ in processes() if parent == os.getpid()} - bait.bystanders
    orphans = {pid for pid, parent, uid in processes() if parent == 1 and uid in bait.uids}
    return sorted(children | orphans)


def processes() -> Iterator[tuple[int, int, int]]:
    """Process id, its parent's and its user's of every process."""
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            lines = Path("/proc", entry, "status").read_text().splitlines()
            fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
            yield int(entry), int(fields["PPid"]), int(fields["Uid"].split()[0])


@pytest.mark.parametrize("tier", Tier)
async def test_two_tenants_at_once_share_nothing(tier: Tier) -> None:
    """53: what one leaves lying or shows of itself, the other does not see."""
    sandbox = Sandbox(launcher_or_skip(tier), warm=0)
    source = """
import ctypes, os, time
def f(x):
    seen = []
    for _ in range(20):
        for place in ('/tmp', '/dev/shm', '/proc', '/run'):
            try: seen += os.listdir(place)
            except OSError: pass
        try: open('/dev/shm/mine', 'w')
        except OSError: pass
        if ctypes.CDLL(None).shmget(4711, 4096, 0o1666) != -1: seen.append('shared memory')
        time.sleep(0.01)
    return 2 * x if not seen else str(seen)
"""
    jobs = [Opened(sandbox, [await sandbox.take()]) for _ in range(2)]
    both = await asyncio.gather(*(run(PARAMS, f"```\n{source}\n```", job, HONEST_S) for job in jobs))
    for job in jobs:
        await job.boxes[0].close()
    await sandbox.close()
    assert [found.outcome for found in both] == [Outcome.PASS, Outcome.PASS]


@pytest.mark.parametrize("tier", Tier)
async def test_test_code_is_trusted_no_more(tier: Tier) -> None:
    """50, and a tenant whose tests attack: they cannot get out, and the candidate cannot reach them."""
    sandbox = Sandbox(launcher_or_skip(tier), warm=0)
    escape = "import os\ntry:\n    open('/etc/passwd')\nexcept OSError:\n    assert f(1) == 2\nelse:\n    assert False"
    overwrite = "import builtins\nclass Never(Exception): pass\nbuiltins.AssertionError = Never\ndef f(x): return 3"
    for code, text, outcome in (
        (escape, "def f(x): return 2 * x", Outcome.PASS),
        ("assert f(1) == 2", overwrite, Outcome.FAIL),
        ("assert f(1) == 2", "class Any(int):\n    __eq__ = lambda *_: True\ndef f(x): return Any()", Outcome.FAIL),
        ("assert f(1) == 2\nimport os\nos.fork()", "def f(x): return 2", Outcome.FAIL),
    ):
        job = Opened(sandbox, [await sandbox.take(), await sandbox.take()])
        params = msgspec.convert({"entry": "f", "code": code}, PythonTestsParams)
        found = await run(params, f"```\n{text}\n```", job, HONEST_S)
        for box in job.boxes:
            await box.close()
        assert found.outcome is outcome, (code, found)
    await sandbox.close()


@pytest.mark.parametrize("tier", Tier)
async def test_no_function_of_the_candidate_stands_in_for_what_test_code_calls(tier: Tier) -> None:
    sandbox = Sandbox(launcher_or_skip(tier), warm=0)
    params = msgspec.convert({"entry": "f", "code": REPLACING_TESTS}, PythonTestsParams)
    async with sandbox.job() as job:
        found = await run(params, REPLACED, job, HONEST_S)
    await sandbox.close()
    assert (found.outcome, found.score) == (Outcome.FAIL, 0.0), found.detail


HARMLESS = {"12 TCP to the loopback", "13 UDP", "16 a planted file", "18 environments of others", "fork", "thread"}


@pytest.mark.parametrize("row", [row for row in TABLE if row.name in HARMLESS], ids=lambda row: row.name)
async def test_the_attacks_succeed_without_a_sandbox(row: Abuse, tmp_path: Path) -> None:
    """What the table proves depends on attacks that work: these can be tried in the open."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        bystander = subprocess.Popen(["sleep", "60"], env={"SECRET": SECRET, "PATH": os.defpath})
        (tmp_path / "secret").write_text(SECRET)
        source = Bait(tmp_path, listener, datagrams, bystander).fill_in(row.source)
        ran = subprocess.run(
            [sys.executable, "-c", f"{source}\nprint(f(1))"], capture_output=True, text=True, timeout=20, check=False
        )
        bystander.kill()
        bystander.wait()
    assert ran.stdout.strip().endswith("LEAK")
