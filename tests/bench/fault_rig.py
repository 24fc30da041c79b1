"""64 clients keep asking while parts of the plant are killed, stopped and starved; then the log is held against them.

    python tests/bench/fault_rig.py --rounds 12 --out docs/results

A round is every fault once, in random order. No answer may be wrong or another client's, no request may hang or end
without an answer or a clear error, and every group that was answered must be in the log: anything else exits 1.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from router.log.audit import audit
from router.records import GroupRecord
from router.stats import Rate, wilson
from tests.support.fault_clients import PAUSE_S, Outcomes, ask_each_kind, keep_asking
from tests.support.faults import Fault, Plant, plant

CLIENTS = 64
HOLD_S = 0.8
_READY_S = 30.0


@dataclass(slots=True)
class Report:
    """What came of a run. Every list that names a failing must be empty."""

    seed: int
    seconds: float = 0.0
    injected: Counter[Fault] = field(default_factory=Counter)
    outcomes: Outcomes = field(default_factory=Outcomes)
    unexplained: int = 0  # connections that broke while the gateway ought to have been listening
    logged: int = 0
    groups_lost: list[str] = field(default_factory=list)  # answered, and not in the log
    groups_changed: list[str] = field(default_factory=list)  # in the log with another prompt
    groups_twice: int = 0
    damage: list[str] = field(default_factory=list)
    tracebacks: int = 0
    unrecovered: list[str] = field(default_factory=list)

    def faults(self) -> dict[str, int]:
        """How often what must not happen did."""
        found = self.outcomes
        return {
            "wrong answers": len(found.wrong),
            "answers of another client": len(found.crossed),
            "requests that hung": len(found.hangs),
            "errors or streams that are not clear": len(found.unclear),
            "connections broken while the gateway ought to listen": self.unexplained,
            "answered groups lost": len(self.groups_lost),
            "groups logged with another prompt": len(self.groups_changed),
            "groups logged twice": self.groups_twice,
            "damage in the log": len(self.damage),
            "tracebacks": self.tracebacks,
            "not as before after the last fault": len(self.unrecovered),
        }


async def run_rig(home: Path, rounds: int, seed: int, hold_s: float = HOLD_S) -> Report:
    """Run `rounds` of all faults under load and hold the log against the answers."""
    report, rng, began = Report(seed), random.Random(seed), time.monotonic()
    with plant(home) as running:
        stop = asyncio.Event()
        load = asyncio.create_task(keep_asking(running.gateway.url, CLIENTS, stop, seed, report.outcomes))
        try:
            for _ in range(rounds):
                for fault in rng.sample(list(Fault), len(Fault)):
                    await asyncio.sleep(rng.uniform(0.2, 0.8))
                    await running.inject(fault, hold_s)
                    report.injected[fault] += 1
        finally:
            stop.set()
            await load
        report.seconds = time.monotonic() - began
        await _recovers(running, report)
        code = await asyncio.to_thread(running.gateway.stop)
        if code:
            report.unrecovered.append(f"the gateway ended with {code}")
        report.tracebacks = running.gateway.output.count("Traceback")
        report.unexplained = sum(running.listened(when) for when in report.outcomes.lost)
        _compare(report, running.gateway.groups())
        report.damage = [str(problem) for problem in audit(running.gateway.log_dir).problems]
    return report


async def _recovers(running: Plant, report: Report) -> None:
    """With everything up again nothing is degraded, and every kind of request is answered."""
    deadline = time.monotonic() + _READY_S
    while True:
        ready = await asyncio.to_thread(running.gateway.wait_for, "/readyz", 200)
        if not ready["degraded"]:
            break
        if time.monotonic() > deadline:
            report.unrecovered.append(f"degraded: {ready['degraded']}")
            return
        await asyncio.sleep(0.1)
    after = Outcomes()
    await ask_each_kind(running.gateway.url, after)
    if after.answered != after.requests or after.wrong or after.crossed:
        report.unrecovered.append(f"{after.answered} of {after.requests} answered: {after.errors} {after.wrong}")
    report.outcomes.groups |= after.groups


def _compare(report: Report, groups: list[GroupRecord]) -> None:
    """Every answered group is in the log, once, with the prompt that was asked."""
    prompts = {group.group_id: group.messages[-1]["content"] for group in groups}
    report.logged, report.groups_twice = len(groups), len(groups) - len(prompts)
    for group_id, prompt in report.outcomes.groups.items():
        if group_id not in prompts:
            report.groups_lost.append(f"{group_id} {prompt}")
        elif prompts[group_id] != prompt:
            report.groups_changed.append(f"{group_id} {prompt!r} is {prompts[group_id]!r}")


def markdown(report: Report, command: str) -> str:
    """The figures as a page."""
    found, groups = report.outcomes, len(report.outcomes.groups)
    answered, lost = wilson(found.answered, found.requests), wilson(len(report.groups_lost), groups)
    tables = {
        "What must not happen": list(report.faults().items()),
        "Faults injected": sorted((fault.value, count) for fault, count in report.injected.items()),
        "Errors by status and code": [*sorted(found.errors.items()), ("connection refused or broken", len(found.lost))],
        "Answers by kind, route and status": sorted(found.answers.items()),
    }
    lines = [
        f"# Faults under load, {datetime.now(UTC):%Y-%m-%d}",
        "",
        f"    {command}",
        "",
        f"{CLIENTS} clients on {os.cpu_count()} cores that other work shares; two scripted engines, Redis, and a",
        f'gateway of two workers with `[log] mode = "sync"`; {report.seconds:.0f} s. Each fault',
        f"was held {HOLD_S} s (a killed engine: as long as its start took) and undone before the next; a client paused",
        f"{PAUSE_S} s on average between two questions. Routes: single, vote, decisive check with escalation, verified",
        "cache, server-side tool; half of them streamed.",
        "",
        f"- requests: {found.requests}; answered: {found.answered}, {_interval(answered)}",
        f"- answered groups: {groups}; lost: {len(report.groups_lost)}, {_interval(lost)}",
        f"- groups in the log: {report.logged}, with those whose client lost its connection before the answer",
    ]
    for title, rows in tables.items():
        lines += [
            "",
            f"**{title}**",
            "",
            "| | count |",
            "|---|---|",
            *(f"| {name} | {count} |" for name, count in rows),
        ]
    return "\n".join(lines) + "\n"


def _interval(rate: Rate) -> str:
    return f"{100 * (rate.low or 0):.3g} to {100 * (rate.high or 0):.3g} % (95 %, Wilson)"


def main() -> int:
    """Run, print and write the page; exit 1 when anything happened that must not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12, help="of all faults; about 20 s each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for the page")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        report = asyncio.run(run_rig(Path(home), args.rounds, args.seed))
    page = markdown(report, f"python tests/bench/fault_rig.py --rounds {args.rounds} --seed {args.seed}")
    print(page)
    if args.out is not None:
        (args.out / f"faults-{datetime.now(UTC):%Y-%m-%d}.md").write_text(page)
    found = report.outcomes
    for failing in (found.wrong, found.crossed, found.hangs, found.unclear, report.groups_lost, report.groups_changed):
        for line in failing[:5]:
            print(line, file=sys.stderr)
    print(*report.damage, *report.unrecovered, sep="\n", file=sys.stderr)
    return int(any(report.faults().values()))


if __name__ == "__main__":
    sys.exit(main())
