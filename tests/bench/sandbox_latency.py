"""What the sandbox costs: dispatch to verdict warm and cold, an idle pool's memory, kills, admission, math checks.

    python tests/bench/sandbox_latency.py [--jobs 100] [--kills 200] [--json]

Run it on a quiet machine: every number is of wall time or of whole processes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from router.enums import Outcome, RunEnd, Tier
from router.errors import InvalidRequest, SandboxUnavailable
from router.sandbox.launch import launcher
from router.sandbox.sandbox import Sandbox
from router.verify.pool import WorkerPool
from router.verify.spec import parse_checks
from router.verify.verifier import IsolatedVerifier

ADD = {"type": "python_tests", "entry": "add", "cases": [{"args": [1, 2], "expect": 3}, {"args": [0, 0], "expect": 0}]}
TESTED = {"type": "python_tests", "entry": "add", "code": "def check(add):\n    assert add(1, 2) == 3"}
ANSWER = "```python\ndef add(a, b):\n    return a + b\n```"
HOSTILE: list[dict[str, Any]] = [
    {"type": "python_tests", "entry": "f", "code": "assert " + "(" * 5000},
    {"type": "python_tests", "entry": "f", "code": "def f(:"},
    {"type": "python_tests", "entry": "f", "code": "x = [1]\n" * 4000},
    {"type": "python_tests", "entry": "f", "code": "assert 1" + "+1" * 16000 + "("},
    {"type": "sql", "fixtures": [{"setup": "ATTACH 'x' AS y", "expect": [[1]]}] * 2},
    {"type": "sql", "fixtures": [{"setup": "INSERT INTO t VALUES " + "(" * 5000, "expect": [[1]]}] * 2},
    {"type": "json_schema", "schema": json.loads('{"not":' * 900 + "{}" + "}" * 900)},
]
POOL, SETTLE_S = 4, 0.3
MIB = 1024 * 1024


async def measure(tier: Tier, jobs: int, kills: int) -> dict[str, Any]:
    """The figures of one tier."""
    warm = Sandbox(launcher(tier), warm=POOL)
    await warm.fill()
    await asyncio.sleep(SETTLE_S)
    memory = idle_memory()
    cold = Sandbox(launcher(tier), warm=0)
    async with WorkerPool(workers=1) as workers:
        figures = {
            "warm_ms": await verdicts(IsolatedVerifier(workers, warm), ADD, jobs, SETTLE_S),
            "warm_two_sandboxes_ms": await verdicts(IsolatedVerifier(workers, warm), TESTED, jobs // 4, 2 * SETTLE_S),
            "cold_ms": await verdicts(IsolatedVerifier(workers, cold), ADD, jobs // 2, 0.05),
        }
    await warm.close()
    figures |= memory | await killed(cold, kills)
    await cold.close()
    return figures


async def verdicts(verifier: IsolatedVerifier, check: dict[str, Any], jobs: int, pause_s: float) -> dict[str, float]:
    """Milliseconds from the dispatch of one check to its verdict; the pool has `pause_s` to recover."""
    checks = parse_checks([check], where="checks", default_timeout_s=3.0)
    took = []
    for _ in range(jobs):
        started = time.perf_counter()
        (result,) = await verifier.verify(checks, ANSWER)
        took.append((time.perf_counter() - started) * 1000)
        assert result.outcome is Outcome.PASS, result.detail
        await asyncio.sleep(pause_s)
    return {"n": jobs, "p50": round(statistics.median(took), 2), "p95": round(sorted(took)[int(0.95 * jobs)], 2)}


def idle_memory() -> dict[str, Any]:
    """Memory of all our children, resident and proportional (shared pages divided among their users)."""
    totals = {"Rss": 0, "Pss": 0}
    waiting, count = [os.getpid()], 0
    while waiting:
        parent = waiting.pop()
        for task in Path("/proc", str(parent), "task").iterdir():
            for child in (task / "children").read_text().split():
                waiting.append(int(child))
                count += 1
                for line in Path("/proc", child, "smaps_rollup").read_text().splitlines():
                    name, _, rest = line.partition(":")
                    if name in totals:
                        totals[name] += int(rest.split()[0]) * 1024
    return {f"idle_{POOL}_{name.lower()}_mib": round(size / MIB, 1) for name, size in totals.items()} | {
        "idle_processes": count
    }


async def killed(sandbox: Sandbox, kills: int) -> dict[str, Any]:
    """Zombies and descriptors left by jobs that had to be killed."""
    await sandbox.run("pass", 5)
    await asyncio.sleep(SETTLE_S)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(kills):
        assert (await sandbox.run("while True: pass", 0.02)).end is RunEnd.TIMEOUT
    await asyncio.sleep(1.0)
    left = len(os.listdir("/proc/self/fd")) - before
    return {"kills": kills, "zombies": zombies(), "descriptors_left": left}


def zombies() -> int:
    """Dead processes that nobody has reaped: our children, and sandboxes left to the system's init."""
    count = 0
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            name, _, rest = Path("/proc", entry, "stat").read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue
        state, parent = rest.split()[:2]
        count += state == "Z" and (int(parent) == os.getpid() or name in ("bwrap", "python3"))
    return count


def admission() -> dict[str, float]:
    """Slowest refusal of hostile input, in milliseconds of processor time."""
    slowest = 0.0
    for check in HOSTILE:
        started = time.process_time()
        try:
            parse_checks([check], where="checks", default_timeout_s=3.0)
        except InvalidRequest:
            slowest = max(slowest, (time.process_time() - started) * 1000)
            continue
        raise AssertionError(f"admitted: {str(check)[:80]}")
    return {"slowest_refusal_ms": round(slowest, 1)}


async def math_rate(seconds: float = 5.0) -> dict[str, float]:
    """Math checks a second of one worker process, and of one second of its processor time."""
    checks = parse_checks([{"type": "math", "reference": r"\frac{3}{4}"}], where="checks", default_timeout_s=3.0)
    async with WorkerPool(workers=1) as pool:
        [worker] = pool._live
        done, started, used = 0, time.perf_counter(), processor_s(worker.pid)
        while time.perf_counter() - started < seconds and worker in pool._live:
            (result,) = await pool.verify(checks, rf"So \boxed{{\frac{{{3 + done}}}{{{4 + done}}}}}")
            assert result.outcome is (Outcome.PASS if done == 0 else Outcome.FAIL)
            done += 1
            if done % 90 == 0:
                break
        wall, cpu = time.perf_counter() - started, processor_s(worker.pid) - used
    return {"n": done, "per_s": round(done / wall), "per_core_s": round(done / max(cpu, 1e-9))}


def processor_s(pid: int) -> float:
    """Processor time of a process."""
    fields = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def main(arguments: list[str]) -> None:
    """Print the figures of every tier there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    figures: dict[str, Any] = {"load": os.getloadavg()[0], "admission": admission(), "math": await math_rate()}
    for tier in Tier:
        try:
            figures[tier] = await measure(tier, options.jobs, options.kills)
        except SandboxUnavailable as error:
            figures[tier] = str(error)
    if options.json:
        print(json.dumps(figures))
        return
    for name, each in figures.items():
        print(name, *(f"\n    {key}: {value}" for key, value in each.items()) if isinstance(each, dict) else [each])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
