"""What a verified cache hit costs: CPU time of the gateway's process a hit, over HTTP, with a real Redis.

    python tests/bench/cache_hit_cpu.py

The gateway is a process of its own; its user and system time come from /proc, so neither the clients, Redis nor the
verification workers are in it. Rounds of hits and of `GET /healthz` (routing and HTTP alone) are interleaved.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path

import aiohttp

from tests.support.gateway_process import GatewayProcess
from tests.support.mock_engine import MockEngine
from tests.support.redis_server import RedisServer

BAR_MS = 0.6
QUESTION = "A farmer has 2 sheep and buys 2 more. How many sheep are there? End with the answer in \\boxed{}. [%d]"
HZ = os.sysconf("SC_CLK_TCK")


def main() -> int:
    """Print the table; exit 1 when the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=4000, help="of each kind and round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--memory", action="store_true", help="the in-process cache instead of Redis")
    parser.add_argument("--answer-chars", type=int, default=400)
    args = parser.parse_args()
    redis = RedisServer()
    redis.start()
    try:
        with tempfile.TemporaryDirectory() as home, MockEngine() as engine:
            words = "word " * (args.answer_chars // 5)
            engine.default = type(engine.default)((f"{words} The answer is \\boxed{{4}}.",))
            env = {} if args.memory else {"THINKTWICE_REDIS__URL": redis.url}
            with GatewayProcess(Path(home), engine.url, env=env) as gateway:
                gateway.wait_for("/readyz", 200)
                hits, bare, rate = asyncio.run(_rounds(gateway, args))
    finally:
        redis.stop()
    for name, times in (("verified cache hit", hits), ("GET /healthz", bare)):
        print(f"{name}: {statistics.median(times):.3f} ms of CPU (rounds {min(times):.3f} to {max(times):.3f})")
    print(f"hits a second at concurrency {args.concurrency}: {statistics.median(rate):.0f}")
    return int(statistics.median(hits) > BAR_MS)


async def _rounds(gateway: GatewayProcess, args: argparse.Namespace) -> tuple[list[float], list[float], list[float]]:
    hits, bare, rate = [], [], []
    async with aiohttp.ClientSession(base_url=gateway.url) as client:
        for number in range(50):
            assert await _ask(client, number) is False
        await _all(client, 500, args.concurrency, hit=True)
        for _ in range(args.rounds):
            began = time.perf_counter()
            hits.append(await _cpu_ms(gateway, client, args, hit=True))
            rate.append(args.requests / (time.perf_counter() - began))
            bare.append(await _cpu_ms(gateway, client, args, hit=False))
    return hits, bare, rate


async def _cpu_ms(
    gateway: GatewayProcess, client: aiohttp.ClientSession, args: argparse.Namespace, *, hit: bool
) -> float:
    before = _cpu_s(gateway.pid)
    await _all(client, args.requests, args.concurrency, hit=hit)
    spent_s = _cpu_s(gateway.pid) - before
    return spent_s / int(args.requests) * 1000


def _cpu_s(pid: int) -> float:
    """User and system time of one process, in seconds (proc(5): fields 14 and 15 of stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / HZ


async def _all(client: aiohttp.ClientSession, count: int, concurrency: int, *, hit: bool) -> None:
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            if hit:
                assert await _ask(client, number % 50) is True
            else:
                async with client.get("/healthz") as response:
                    await response.read()

    await asyncio.gather(*(worker() for _ in range(concurrency)))


async def _ask(client: aiohttp.ClientSession, number: int) -> bool:
    """Ask a question; whether its answer came from the cache."""
    body = {
        "model": "champion",
        "messages": [{"role": "user", "content": QUESTION % number}],
        "verification": {"checks": [{"type": "numeric", "reference": 4}]},
    }
    async with client.post("/v1/chat/completions", json=body) as response:
        verification = (await response.json())["verification"]
        assert verification["status"] == "verified"
        return bool(verification["cached"])


if __name__ == "__main__":
    raise SystemExit(main())
