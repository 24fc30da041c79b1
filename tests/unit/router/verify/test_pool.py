"""The worker pool against real workers: deadlines, deaths, cancellation, recycling."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from router.domain import CheckResult, CheckSpec
from router.enums import Outcome
from router.errors import VerifierUnavailable
from router.verify.limits import MAX_TEXT_CHARS
from router.verify.pool import WorkerLimits, WorkerPool
from router.verify.process import WorkerProcess
from router.verify.spec import parse_checks

# Passes the filter, then keeps the algebra system busy far beyond any deadline.
SLOW: dict[str, Any] = {
    "type": "math",
    "reference": r"\int_0^1 \frac{\sin(x^3)}{1+x^5} dx",
    "allow_unevaluated": True,
}
SLOW_TEXT = r"\boxed{\frac{1}{2}\int_0^1 \frac{2\sin(x^3)}{1+x^5} dx}"
NUMERIC = {"type": "numeric", "reference": 5}
SLACK_S = 2.0  # for a busy machine


def checks(*raw: dict[str, Any], timeout_s: float = 3.0) -> tuple[CheckSpec, ...]:
    return parse_checks(list(raw), where="checks", default_timeout_s=timeout_s)


def outcomes(results: tuple[CheckResult, ...]) -> list[Outcome]:
    return [result.outcome for result in results]


async def settled(pool: WorkerPool, workers: int) -> list[WorkerProcess]:
    """The pool's workers once all are back."""
    for _ in range(600):
        live = [worker for worker in pool._live if worker.alive]
        if len(live) == workers and pool._idle.qsize() == workers:
            return live
        await asyncio.sleep(0.05)
    raise AssertionError("the pool did not recover")


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[WorkerPool]:
    async with WorkerPool(workers=1, queue=4) as pool:
        yield pool


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_results_in_order_with_versions(shared: WorkerPool) -> None:
    specs = checks(NUMERIC, {"type": "regex", "pattern": "x"}, {"type": "math", "reference": r"\sqrt{2}"})
    results = await shared.verify(specs, "Answer: 5")
    assert [result.id for result in results] == ["c0", "c1", "c2"]
    assert outcomes(results) == [Outcome.PASS, Outcome.FAIL, Outcome.FAIL]
    assert [result.version for result in results] == [spec.version for spec in specs]
    assert all(result.ms >= 0 for result in results)
    assert await shared.verify((), "x") == ()


async def test_deadline_kills_and_the_rest_goes_on(shared: WorkerPool) -> None:
    specs = checks({**SLOW, "timeout_s": 0.4}, {**NUMERIC, "required": False})
    (worker,) = await settled(shared, 1)
    started = time.monotonic()
    results = await shared.verify(specs[:1], SLOW_TEXT)
    assert time.monotonic() - started < 0.4 + SLACK_S
    assert outcomes(results) == [Outcome.TIMEOUT]
    assert results[0].score is None
    results = await shared.verify(specs, SLOW_TEXT)
    assert outcomes(results) == [Outcome.TIMEOUT, Outcome.FAIL]
    (replacement,) = await settled(shared, 1)
    assert replacement.pid != worker.pid
    assert not exists(worker.pid)  # killed and reaped: no zombie either


async def test_death_in_a_check_is_an_error_never_a_fail(shared: WorkerPool) -> None:
    (worker,) = await settled(shared, 1)
    verdict = asyncio.create_task(shared.verify(checks(SLOW, NUMERIC), SLOW_TEXT))
    await asyncio.sleep(0.2)
    os.kill(worker.pid, signal.SIGKILL)
    assert outcomes(await verdict) == [Outcome.ERROR, Outcome.FAIL]


async def test_an_idle_worker_that_died_is_replaced_unnoticed(shared: WorkerPool) -> None:
    (worker,) = await settled(shared, 1)
    os.kill(worker.pid, signal.SIGKILL)
    while worker.alive:
        await asyncio.sleep(0.01)
    assert shared.available()
    assert outcomes(await shared.verify(checks(NUMERIC), "Answer: 5")) == [Outcome.PASS]


async def test_cancelled_caller_leaves_nothing_behind(shared: WorkerPool) -> None:
    (worker,) = await settled(shared, 1)
    first = asyncio.create_task(shared.verify(checks(SLOW), SLOW_TEXT))
    await asyncio.sleep(0.1)
    second = asyncio.create_task(shared.verify(checks(NUMERIC), "Answer: 5"))
    waiting = asyncio.create_task(shared.verify(checks(NUMERIC), "Answer: 5"))
    await asyncio.sleep(0.05)
    first.cancel()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert outcomes(await second) == [Outcome.PASS]
    assert [result.type for result in await second] == ["numeric"]
    await settled(shared, 1)
    assert not exists(worker.pid)


async def test_cancelling_a_storm_never_mixes_answers(shared: WorkerPool) -> None:
    async def ask(number: int) -> tuple[int, tuple[CheckResult, ...]]:
        spec = checks({"type": "numeric", "reference": number, "id": f"n{number}"})
        return number, await shared.verify(spec, f"Answer: {number}")

    for round_number in range(8):
        tasks = [asyncio.create_task(ask(10 * round_number + i)) for i in range(4)]
        await asyncio.sleep(0.0004 * round_number)
        tasks[round_number % 4].cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, asyncio.CancelledError):
                continue
            assert not isinstance(outcome, BaseException)
            number, results = outcome
            assert [(r.id, r.outcome) for r in results] == [(f"n{number}", Outcome.PASS)]
    await settled(shared, 1)


async def test_full_queue_is_refused(shared: WorkerPool) -> None:
    await settled(shared, 1)
    busy = [asyncio.create_task(shared.verify(checks(SLOW, timeout_s=1.0), SLOW_TEXT)) for _ in range(5)]
    await asyncio.sleep(0.05)
    assert not shared.available()
    with pytest.raises(VerifierUnavailable):
        await shared.verify(checks(NUMERIC), "Answer: 5")
    for task in busy:
        task.cancel()
    await asyncio.gather(*busy, return_exceptions=True)
    assert shared.available()


async def test_text_beyond_our_bounds(shared: WorkerPool) -> None:
    long = await shared.verify(checks(NUMERIC), "5" * (MAX_TEXT_CHARS + 1))
    assert outcomes(long) == [Outcome.ERROR]
    surrogate = await shared.verify(checks(NUMERIC), "\ud800\x00 Answer: 5")
    assert outcomes(surrogate) == [Outcome.PASS]
    largest = await shared.verify(checks({"type": "regex", "pattern": "a"}), "\x01" * MAX_TEXT_CHARS)
    assert outcomes(largest) == [Outcome.FAIL]


async def test_worker_is_confined(shared: WorkerPool) -> None:
    (worker,) = await settled(shared, 1)
    assert os.getsid(worker.pid) == worker.pid
    environment = Path(f"/proc/{worker.pid}/environ").read_bytes().split(b"\0")
    assert {entry.split(b"=")[0] for entry in environment if entry} == {b"PATH", b"LANG"}
    limits = Path(f"/proc/{worker.pid}/limits").read_text()
    for name, value in (("address space", 1024 << 20), ("file size", 0), ("core file size", 0), ("open files", 32)):
        (line,) = [line for line in limits.splitlines() if line.startswith(f"Max {name} ")]
        assert line.removeprefix(f"Max {name} ").split()[0] == str(value)
    status = Path(f"/proc/{worker.pid}/status").read_text()
    assert "NoNewPrivs:\t1\n" in status and "Seccomp:\t2\n" in status


async def test_recycled_after_its_jobs_without_a_gap() -> None:
    async with WorkerPool(workers=1, limits=WorkerLimits(jobs=2)) as pool:
        first = (await settled(pool, 1))[0].pid
        for _ in range(5):
            assert outcomes(await pool.verify(checks(NUMERIC), "Answer: 5")) == [Outcome.PASS]
            assert pool._live  # the worn worker serves on while its successor starts
        while exists(first):
            await asyncio.sleep(0.02)
        (successor,) = await settled(pool, 1)
        assert successor.pid != first


async def test_a_worn_worker_that_dies_has_one_successor() -> None:
    async with WorkerPool(workers=1, limits=WorkerLimits(jobs=1)) as pool:
        await pool.verify(checks(NUMERIC), "Answer: 5")
        assert outcomes(await pool.verify(checks(SLOW, timeout_s=0.2), SLOW_TEXT)) == [Outcome.TIMEOUT]
        while pool._background:
            await asyncio.sleep(0.05)
        assert len(pool._live) == pool._idle.qsize() == 1


HANGING = [
    r"9^{9^9}",
    "100000000!",
    r"\binom{10^9}{5\cdot 10^8}",
    r"\sum_{k=1}^{10^{12}} 1/k",
    "(" * 3000 + "1" + ")" * 3000,
    "{" * 200 + "1" + "}" * 200,
    r"((10^{999})^{999})^{999}",
    "1" * 100_000,
    r"\prod_{k=1}^{999} (x+k^{99})^{99}",
    r"(x+y+z+w+1)^{999}-(w+x+y+z+1)^{999}+\int_0^1 e^{-x^3} dx",
]


async def test_hanging_answers_end_by_the_deadline(shared: WorkerPool) -> None:
    await settled(shared, 1)
    for allowed in (False, True):
        spec = checks({"type": "math", "reference": r"\pi+1", "allow_unevaluated": allowed}, timeout_s=1.0)
        for answer in HANGING:
            await settled(shared, 1)
            started = time.monotonic()
            (result,) = await shared.verify(spec, f"\\boxed{{{answer}}}")
            assert time.monotonic() - started < 1.0 + SLACK_S, answer
            assert result.outcome is not Outcome.PASS


async def test_recycled_when_it_has_grown() -> None:
    async with WorkerPool(workers=1, limits=WorkerLimits(peak_rss_bytes=1)) as pool:
        first = (await settled(pool, 1))[0].pid
        await pool.verify(checks(NUMERIC), "Answer: 5")
        assert (await settled(pool, 1))[0].pid != first


async def test_the_size_of_its_parent_is_not_its_own() -> None:
    ballast = bytearray(400 * 1024 * 1024)
    ballast[::4096] = bytes([1]) * len(ballast[::4096])  # resident
    async with WorkerPool(workers=1) as pool:
        first = (await settled(pool, 1))[0]
        await pool.verify(checks(NUMERIC), "Answer: 5")
        assert (await settled(pool, 1))[0].pid == first.pid
        assert 10 << 20 < first.peak_rss_bytes < 300 << 20


async def test_out_of_memory_is_an_error(shared: WorkerPool) -> None:
    (worker,) = await settled(shared, 1)
    pages = int(Path(f"/proc/{worker.pid}/statm").read_text().split()[0])
    barely_enough = pages * os.sysconf("SC_PAGE_SIZE") // (1 << 20) + 12
    text = "1" + "+1" * (MAX_TEXT_CHARS // 2 - 10) + "=2"  # some 40 MB of tokens
    async with WorkerPool(workers=1, limits=WorkerLimits(address_space_mib=barely_enough)) as pool:
        results = await pool.verify(checks({"type": "arithmetic_steps"}, NUMERIC), text)
        assert outcomes(results) == [Outcome.ERROR, Outcome.FAIL]
        assert outcomes(await pool.verify(checks(NUMERIC), "Answer: 5")) == [Outcome.PASS]


async def test_a_process_check_says_how_much_it_covered() -> None:
    async with WorkerPool(workers=1) as pool:
        for text, coverage in (("1+1=2, x+1=2", 0.5), ("1+1=3", 1.0), ("no steps", None)):
            [result] = await pool.verify(checks({"type": "arithmetic_steps"}), text)
            assert result.coverage == coverage


async def test_a_pool_that_cannot_start_says_so() -> None:
    with pytest.raises(VerifierUnavailable):
        await WorkerPool(workers=1, limits=WorkerLimits(address_space_mib=16)).start()


async def test_closed_pool_refuses() -> None:
    pool = WorkerPool(workers=1)
    assert not pool.available()
    async with pool:
        pid = (await settled(pool, 1))[0].pid
        running = asyncio.create_task(pool.verify(checks(SLOW), SLOW_TEXT))
        await asyncio.sleep(0.1)
    assert outcomes(await running) == [Outcome.ERROR]
    assert not exists(pid)
    with pytest.raises(VerifierUnavailable):
        await pool.verify(checks(NUMERIC), "Answer: 5")


async def test_no_worker_outlives_a_killed_parent() -> None:
    program = (
        "import asyncio, sys\n"
        "from router.verify.pool import WorkerPool\n"
        "from router.verify.spec import parse_checks\n"
        "async def main():\n"
        "    async with WorkerPool(workers=1) as pool:\n"
        "        print(*(worker.pid for worker in pool._live), flush=True)\n"
        f"        await pool.verify(parse_checks([{SLOW!r}], where='c', default_timeout_s=10), {SLOW_TEXT!r})\n"
        "asyncio.run(main())\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        worker = int(parent.stdout.readline())
        await asyncio.sleep(0.3)
        assert exists(worker)
        parent.kill()
        parent.wait()
    deadline = time.monotonic() + 2.0
    while exists(worker) and _state(worker) != "Z" and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    assert not exists(worker) or _state(worker) == "Z"  # a zombie where nothing reaps orphans


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return "Z"


async def test_worker_imports_stay_lean() -> None:
    program = (
        "import sys, router.verify.worker, router.verify.algebra\n"
        "heavy = {'torch', 'numpy', 'pydantic', 'pydantic_settings', 'aiohttp', 'httpx', 'requests', 'urllib3',"
        " 'redis', 'openai', 'fastapi', 'starlette', 'asyncio'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    found = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
