"""kill -9 in mid-write, with real processes: what was promised to be on disk is there, once, and nothing is damaged."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from gateway.adapters.segment_log import SegmentLog
from router.log.audit import audit
from router.log.compaction import compact
from router.log.groups import read_groups, recover_abandoned, segments
from router.log.segments import CORRUPT, OPEN
from router.settings import LogSection
from tests.support.groups import group

ROUNDS = {"sync": 5, "async": 2}
CHILD = [sys.executable, "-m", "tests.support.log_child"]
ROOT = Path(__file__).parents[2]


def logged_until_killed(directory: Path, mode: str, prefix: str, after: int) -> list[str]:
    """The ids of the groups that a child said were on disk; it is killed once it has said so of `after`."""
    with subprocess.Popen([*CHILD, str(directory), mode, prefix, "0"], stdout=subprocess.PIPE, cwd=ROOT) as child:
        assert child.stdout is not None
        try:
            lines = [child.stdout.readline() for _ in range(after)]
        finally:
            child.kill()
        lines += child.stdout.readlines()
    printed = [line.decode().strip() for line in lines if line.endswith(b"\n")]
    assert len(printed) >= after, "the child ended by itself"
    return printed


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_kill_9_loses_nothing_that_was_on_disk(tmp_path: Path, mode: str) -> None:
    draw = random.Random(mode)
    promised: set[str] = set()
    for turn in range(ROUNDS[mode]):
        promised |= set(logged_until_killed(tmp_path, mode, f"r{turn}", draw.randrange(50, 300)))
        recover_abandoned(tmp_path)
        assert segments(tmp_path, OPEN, CORRUPT) == []
        if turn % 2:
            compact(tmp_path, min_free_bytes=0)
        found = Counter(record.group_id for _, record in read_groups(tmp_path))
        assert promised <= set(found), "a promised group is lost"
        assert set(found.values()) == {1}, "a group is there twice"
    positions = [position for position, _ in read_groups(tmp_path)]
    assert len(set(positions)) == len(positions) and positions == sorted(positions)
    assert audit(tmp_path).damage == {}


def test_a_gateway_that_starts_after_a_crash_goes_on_in_the_same_directory(tmp_path: Path) -> None:
    printed = logged_until_killed(tmp_path, "sync", "before", 20)

    async def log_one() -> None:
        log = SegmentLog.open(LogSection(dir=tmp_path, mode="sync", min_free_bytes=0))
        await log.append(group("after"))
        await log.close()

    asyncio.run(log_one())
    found = [record.group_id for _, record in read_groups(tmp_path)]
    assert set(printed) <= set(found) and found[-1] == "after"
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["w0"]


def test_a_disk_that_cuts_writes_short_and_comes_back_loses_nothing(tmp_path: Path) -> None:
    """RLIMIT_FSIZE makes the kernel cut a write in the middle of a frame and refuse the rest, as a full disk does."""
    done = subprocess.run(
        [*CHILD, str(tmp_path), "async", "g", "10000"], stdout=subprocess.PIPE, cwd=ROOT, timeout=60, check=True
    )
    lines = done.stdout.decode().splitlines()
    assert any(line.startswith("failing") and "File too large" in line for line in lines)
    promised = {line for line in lines if line.startswith("g-")}
    found = Counter(record.group_id for _, record in read_groups(tmp_path))
    assert set(found) == promised and set(found.values()) == {1}
    assert audit(tmp_path).damage == {}
