"""A small log of two tenants, and what it holds before and after it is compacted."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from router.log.compaction import compact
from router.log.groups import read_groups
from router.log.parts import PARQUET, Position
from router.records import GroupRecord
from tests.support.groups import group
from tests.support.training_log import write_log

SECRET = "the launch code is 0000"
NAMES = ["a1", "b1", "b2", "a2", "a3", "b3"]


def made(name: str, **fields: Any) -> GroupRecord:
    """A group of the tenant that its name begins with; tenant a's hold the secret."""
    known: dict[str, Any] = {"tenant": name[0], "created_at": 1000.0 * int(name[1:])}
    messages = ({"role": "user", "content": SECRET},)
    return group(name, **(known | ({"messages": messages} if name[0] == "a" else {}) | fields))


def fill(log_dir: Path) -> None:
    for first in range(0, len(NAMES), 2):
        write_log(log_dir, [made(name) for name in NAMES[first : first + 2]])


def run(log_dir: Path, **asked: Any) -> Any:
    return compact(log_dir, **({"min_free_bytes": 0} | asked))


def groups(log_dir: Path, **asked: Any) -> list[tuple[Position, GroupRecord]]:
    return list(read_groups(log_dir, include_open=True, **asked))


def ids(log_dir: Path) -> list[str]:
    return [record.group_id for _, record in groups(log_dir)]


def holds_secret(log_dir: Path) -> bool:
    """Whether a tenant's record is in any file, compressed or not."""
    live = {record.tenant for _, record in groups(log_dir)}
    raw = b"".join(path.read_bytes() for path in log_dir.rglob("*") if path.is_file() and path.suffix != PARQUET)
    return "a" in live or SECRET.encode() in raw


def parquet_files(log_dir: Path) -> list[Path]:
    return sorted(log_dir.rglob(f"*{PARQUET}"))


def copier(template: Path, target: Path) -> Callable[[], None]:
    """What makes `target` a fresh copy; far faster than writing and syncing it anew."""

    def copy() -> None:
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(template, target)

    return copy
