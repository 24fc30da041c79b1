"""`SegmentLog`: rotation, refusal before sampling, and a disk that comes back."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from gateway.adapters.segment_log import SegmentLog
from router.errors import ConfigError, LogUnavailable
from router.log.forget import forget
from router.log.groups import read_groups, segments
from router.log.segments import OPEN, SEALED
from router.settings import LogSection
from tests.support.groups import group


def section(directory: Path, **fields: Any) -> LogSection:
    return LogSection(**({"dir": directory, "commit_ms": 5, "min_free_bytes": 0} | fields))


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def ids(directory: Path) -> list[str]:
    return [record.group_id for _, record in read_groups(directory, include_open=True)]


@pytest.mark.parametrize("below", ["a file", "a file/log"])
def test_a_directory_that_cannot_be_made_is_one_line_with_the_cure(tmp_path: Path, below: str) -> None:
    (tmp_path / "a file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot write the group log in .*: set \[log\] dir"):
        SegmentLog.open(section(tmp_path / below))


def test_a_file_system_that_refuses_is_one_line_with_the_cure() -> None:
    with pytest.raises(ConfigError, match="cannot write the group log in /proc/thinktwice"):
        SegmentLog.open(section(Path("/proc/thinktwice")))


async def test_an_idle_log_leaves_no_segment(tmp_path: Path) -> None:
    await SegmentLog.open(section(tmp_path)).close()
    assert segments(tmp_path, OPEN, SEALED) == []


async def test_segments_are_sealed_at_their_size(tmp_path: Path) -> None:
    log = SegmentLog.open(section(tmp_path, segment_bytes=4096, mode="sync"))
    for i in range(20):
        await log.append(group(f"g{i}"))
    assert len(segments(tmp_path, SEALED)) >= 3
    await log.close()
    assert ids(tmp_path) == [f"g{i}" for i in range(20)]
    assert max(path.stat().st_size for path in segments(tmp_path, SEALED)) < 2 * 4096


async def test_a_segment_is_sealed_at_its_age_without_traffic(tmp_path: Path) -> None:
    log = SegmentLog.open(section(tmp_path, segment_s=0.1))
    await log.append(group("g0"))
    await until(lambda: segments(tmp_path, SEALED))
    assert segments(tmp_path, OPEN) == []
    await log.close()


async def test_two_gateways_share_a_log_directory(tmp_path: Path) -> None:
    first, second = SegmentLog.open(section(tmp_path)), SegmentLog.open(section(tmp_path))
    await asyncio.gather(first.append(group("g0")), second.append(group("g1")))
    await asyncio.gather(first.close(), second.close())
    assert sorted(ids(tmp_path)) == ["g0", "g1"]
    assert {path.parent.name for path in segments(tmp_path, SEALED)} == {"w0", "w1"}


async def test_a_disk_short_of_space_refuses_before_sampling(tmp_path: Path) -> None:
    log = SegmentLog.open(section(tmp_path, min_free_bytes=2**62))
    with pytest.raises(LogUnavailable, match="min_free_bytes"):
        log.admit()
    assert log.healthy is not None and "free some space" in log.healthy
    await log.append(group("admitted before"))  # what was drawn is kept all the same
    await log.close()
    assert ids(tmp_path) == ["admitted before"]


async def test_space_that_comes_back_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs(tmp_path)
    full = os.statvfs_result((*real[:4], 0, *real[5:]))
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    log = SegmentLog.open(section(tmp_path, min_free_bytes=1))
    assert log.healthy is not None
    monkeypatch.setattr(os, "statvfs", lambda _: real)
    await until(lambda: log.healthy is None)
    log.admit()
    await log.close()


@pytest.mark.parametrize(
    ("call", "error"),
    [("pwrite", errno.ENOSPC), ("pwrite", errno.EROFS), ("fdatasync", errno.EIO), ("fsync", errno.ENOSPC)],
)
async def test_a_disk_that_fails_and_comes_back_loses_no_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: int
) -> None:
    log = SegmentLog.open(section(tmp_path, queue_groups=10, segment_bytes=4096))
    await log.append(group("before"))
    await until(lambda: log.queue_length == 0)

    def refuse(*_: Any) -> int:
        raise OSError(error, os.strerror(error))

    with monkeypatch.context() as broken:
        broken.setattr(os, call, refuse)
        for i in range(30):
            await log.append(group(f"g{i}"))
        await until(lambda: log.healthy is not None and os.strerror(error) in log.healthy)
        if call != "fsync":  # only sealing waits for it
            with pytest.raises(LogUnavailable, match="30 groups wait for the disk"):
                log.admit()
    await until(lambda: log.healthy is None)
    log.admit()
    await log.close()
    assert ids(tmp_path) == ["before", *(f"g{i}" for i in range(30))]
    assert log.dropped == 0


async def test_in_sync_mode_a_failing_disk_refuses_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = SegmentLog.open(section(tmp_path, mode="sync"), sync_timeout_s=0.2)
    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", _no_space)
        with pytest.raises(LogUnavailable, match=r"g0 is not on disk yet: .*No space left"):
            await log.append(group("g0"))
        with pytest.raises(LogUnavailable, match="No space left"):
            log.admit()
    await until(lambda: log.healthy is None)
    await log.append(group("g1"))
    await log.close()
    assert ids(tmp_path) == ["g0", "g1"]


async def test_a_close_that_cannot_write_says_how_many_it_gave_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = SegmentLog.open(section(tmp_path))
    with monkeypatch.context() as broken:
        broken.setattr(os, "pwrite", _no_space)
        await log.append(group("g0"))
        with pytest.raises(LogUnavailable, match=r"1 group\(s\) could not be written"):
            await log.close(timeout_s=0.2)
        assert log.dropped == 1
    await until(lambda: segments(tmp_path, SEALED))  # the disk is back: it is saved after all
    assert ids(tmp_path) == ["g0"]


async def test_a_log_directory_that_is_deleted_is_made_again(tmp_path: Path) -> None:
    directory = tmp_path / "log"
    log = SegmentLog.open(section(directory, mode="sync"))
    await log.append(group("g0"))
    shutil.rmtree(directory)
    await log.append(group("g1"))
    await log.close()
    assert ids(directory) == ["g1"]


async def test_what_is_forgotten_while_a_segment_is_open_is_not_in_the_sealed_one(tmp_path: Path) -> None:
    log = SegmentLog.open(section(tmp_path, mode="sync"))
    await log.append(group("g0", tenant="a", messages=({"role": "user", "content": "secret"},)))
    await log.append(group("g1", tenant="b"))
    assert (await asyncio.to_thread(forget, tmp_path, tenant="a")).pending == 1
    assert ids(tmp_path) == ["g1"]
    await log.close()
    [sealed] = segments(tmp_path, SEALED)
    assert b"secret" not in sealed.read_bytes()
    assert ids(tmp_path) == ["g1"]


def _no_space(*_: Any) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
