"""What does the gateway cost? Added latency, CPU and memory, beside the engine alone and beside other gateways.

    python -m tests.bench.gateway_speed --peers ~/.cache/thinktwice/bench-peers --out docs/results

All gateways run side by side, one is driven at a time, in an order drawn anew each round, so that a slow minute of the
machine hits them all alike; every ratio and difference is taken within a round. CPU is user and system time of a
gateway's process and its children. The load generator is this process. Exit code 1: a bar is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

from tests.bench import speed_report
from tests.bench.gateways import Field, Subject, started
from tests.bench.load import Load, drive, get
from tests.bench.measured import Measured, Memory, Phase, Soak, Streams
from tests.bench.processes import own, tree

TOKENS = 64
PACE_MS = 2.0  # between two events of a stream: 500 tokens a second
PHASE_S = 0.8  # how long one gateway is driven at a time
AT_ONCE, STREAMS_AT_ONCE = 16, 8


def main() -> int:
    """Measure, print, and write the result; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peers", type=Path, help="folder that deploy/bench-peers filled; without it no peers")
    parser.add_argument("--soak", type=int, default=0, metavar="REQUESTS", help="then watch memory over so many")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the gateways")
    parser.add_argument("--out", type=Path, help="write a Markdown page and its JSON here")
    args = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as home,
        started(Path(home), args.peers, PACE_MS, TOKENS) as field,
    ):
        for reason in field.missing:
            print(f"left out: {reason}", file=sys.stderr)
        measured = uvloop.run(_measure(field, args.rounds, args.soak, random.Random(args.seed)))
    report = speed_report.report(measured, field.missing)
    print(report.markdown())
    if args.out is not None:
        for path in report.write(args.out):
            print(f"written: {path}", file=sys.stderr)
    return int(not all(bar.kept for bar in speed_report.bars(measured) if bar.kept is not None))


async def _measure(field: Field, rounds: int, soak: int, draw: random.Random) -> Measured:
    counts = {subject.name: await _warmed(subject) for subject in field.subjects}
    measured = Measured([subject.name for subject in field.subjects])
    for number in range(rounds):
        for subject in draw.sample(field.subjects, len(field.subjects)):
            await _round(subject, counts[subject.name], measured)
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
    measured.lag_ms = await _probed(field.checking)
    for subject in field.subjects:
        measured.memory[subject.name] = Memory(own(subject.pid).rss, tree(subject.pid).rss)
    if soak:
        measured.soak = await _soaked(field.subjects[1], soak)
    return measured


async def _warmed(subject: Subject) -> int:
    """Warm a gateway up; how many requests it answers in a phase, within reason."""
    await drive(subject.url, [subject.whole], 20, 4)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < PHASE_S:
        count += len((await drive(subject.url, [subject.whole], 20, 4)).answers)
    return min(max(count, 30), 3000)


async def _round(subject: Subject, count: int, measured: Measured) -> None:
    alone = await _phase(subject, [subject.whole], max(count // 3, 20), 1)
    crowd = await _phase(subject, [subject.whole], count, AT_ONCE)
    measured.alone[subject.name].append(alone)
    measured.crowd[subject.name].append(crowd)
    if subject.stream is None:
        return
    one = await _phase(subject, [subject.stream], 6, 1)
    many = await _phase(subject, [subject.stream], 2 * STREAMS_AT_ONCE, STREAMS_AT_ONCE)
    measured.streams[subject.name].append(Streams(one, many))


async def _phase(subject: Subject, requests: Sequence[bytes], count: int, concurrency: int) -> Phase:
    before = tree(subject.pid).cpu_s
    load: Load = await drive(subject.url, requests, count, concurrency)
    return Phase.of(load, tree(subject.pid).cpu_s - before)


async def _probed(subject: Subject) -> list[float]:
    """Milliseconds that `/healthz` takes, asked every 10 ms beside requests whose answers are all verified."""
    probe, times = get(f"{subject.url}/healthz"), []
    working = asyncio.create_task(drive(subject.url, [subject.whole], 2000, STREAMS_AT_ONCE))
    ends = time.perf_counter() + 8
    while time.perf_counter() < ends and not working.done():
        times.append((await drive(subject.url, [probe], 1, 1)).answers[0].whole_s * 1000)
        await asyncio.sleep(0.01)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    return times


async def _soaked(subject: Subject, count: int) -> Soak:
    """The rounds before have filled what is filled once."""
    early = own(subject.pid).rss
    await drive(subject.url, [subject.whole], count, AT_ONCE)
    return Soak(count, early, own(subject.pid).rss - early)


if __name__ == "__main__":
    raise SystemExit(main())
