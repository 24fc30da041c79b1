"""The group log's contract, in both of its modes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import pytest

from gateway.adapters.segment_log import SegmentLog
from router.errors import LogUnavailable, RecordError
from router.log.groups import read_groups
from router.ports import GroupLog
from router.settings import LogSection
from tests.support.groups import group

Mode = Literal["async", "sync"]


@pytest.fixture(params=["async", "sync"])
def mode(request: pytest.FixtureRequest) -> Mode:
    return "sync" if request.param == "sync" else "async"


@pytest.fixture
async def log(tmp_path: Path, mode: Mode) -> AsyncIterator[SegmentLog]:
    log = SegmentLog.open(LogSection(dir=tmp_path, mode=mode, commit_ms=20, segment_bytes=8192, min_free_bytes=0))
    yield log
    await log.close()


async def test_every_group_is_there_once_in_order(log: SegmentLog, tmp_path: Path) -> None:
    port: GroupLog = log
    records = [group(f"g{i}") for i in range(100)]
    for record in records:
        port.admit()
        await port.append(record)
    await log.close()
    found = list(read_groups(tmp_path))
    assert [record for _, record in found] == records
    assert [position.seq for position, _ in found] == list(range(100))
    assert (log.appended, log.dropped, log.queue_length) == (100, 0, 0)
    assert log.bytes_written > 0


async def test_callers_at_once_share_a_commit(log: SegmentLog, tmp_path: Path) -> None:
    await asyncio.gather(*(log.append(group(f"g{i}")) for i in range(200)))
    await log.close()
    assert {record.group_id for _, record in read_groups(tmp_path)} == {f"g{i}" for i in range(200)}


async def test_a_group_is_on_disk_within_the_commit_interval(log: SegmentLog, tmp_path: Path, mode: Mode) -> None:
    await log.append(group("g0"))
    if mode == "async":
        await asyncio.sleep(0.5)  # 20 ms, on a busy machine
    assert [record.group_id for _, record in read_groups(tmp_path, include_open=True)] == ["g0"]


async def test_a_group_that_cannot_be_stored_does_not_stop_the_others(log: SegmentLog, tmp_path: Path) -> None:
    for broken in (10**30, "\ud800", object()):
        with pytest.raises(RecordError, match="group g1 cannot be stored"):
            await log.append(group("g1", options={"x": broken}))
    await log.append(group("g2"))
    await log.close()
    assert [record.group_id for _, record in read_groups(tmp_path)] == ["g2"]


async def test_a_closed_log_refuses(log: SegmentLog) -> None:
    await log.close()
    await log.close()
    with pytest.raises(LogUnavailable, match="closed"):
        log.admit()
    with pytest.raises(LogUnavailable, match="closed"):
        await log.append(group())
    assert log.healthy is not None


async def test_a_caller_that_goes_away_takes_no_group_along(log: SegmentLog, tmp_path: Path) -> None:
    tasks = [asyncio.create_task(log.append(group(f"g{i}"))) for i in range(50)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await log.append(group("last"))
    await log.close()
    assert len(list(read_groups(tmp_path))) == 51
