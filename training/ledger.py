"""The cycles of `thinktwice train --if-due` on disk: the one under way, and one line for each that ended.

    <state dir>/training/cycle.json      the cycle under way, as far as it has come
    <state dir>/training/ledger.jsonl    the cycles that ended, oldest first

A cycle ends with its line; only then is its file removed. A file whose cycle has a line is what a crash left between.
"""

from __future__ import annotations

from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

import msgspec

from router.errors import TrainingError
from router.fs import append_durably, drop_leftovers, fsync_dir, write_durably
from training.gate import Verdict

Marker: TypeAlias = tuple[float, str]  # when a group was made (Unix time, seconds), and its id


class Exit(StrEnum):
    """How a cycle ended."""

    PROMOTED = "promoted"
    HELD = "held"
    DROPPED = "dropped"  # the champion changed before it was decided
    FAILED = "failed"  # in training


class Cycle(msgspec.Struct, frozen=True):
    """A cycle so far; a line of the ledger once it has ended."""

    id: str
    epoch: int  # of the champion when it began
    ts: float = 0.0  # when it ended, Unix time in seconds
    policy: str | None = None
    parent: str | None = None  # the champion it goes on from; None: the base model
    groups: int = 0
    drops: dict[str, int] = {}  # groups by reason
    last_group: str | None = None
    last_group_at: float | None = None
    verdict: Verdict | None = None
    why: str = ""
    n01: int | None = None
    n10: int | None = None
    pairs: int | None = None
    p: float | None = None
    mde: float | None = None
    seconds: dict[str, float] = {}  # by phase
    exit: Exit | None = None


class Ledger:
    """Both files. Whoever writes holds the trainers' lock."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._cycle, self._ended = folder / "cycle.json", folder / "ledger.jsonl"

    def unfinished(self) -> Cycle | None:
        """The cycle that a process left under way. Raises `TrainingError` when a file is damaged."""
        try:
            cycle = msgspec.json.decode(self._cycle.read_bytes(), type=Cycle)
        except FileNotFoundError:
            return None
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise TrainingError(f"{self._cycle} is damaged ({error}): remove it, and the cycle begins anew") from error
        return cycle if all(each.id != cycle.id for each in self.cycles()) else None

    def save(self, cycle: Cycle) -> None:
        """Keep the cycle as far as it has come. Raises `OSError`."""
        drop_leftovers(self._folder, self._cycle.name)
        write_durably(self._cycle, msgspec.json.encode(cycle) + b"\n")

    def finish(self, cycle: Cycle) -> None:
        """Write the cycle's line, unless it is there, and remove its file. Raises `OSError`."""
        self._drop_torn()
        if all(each.id != cycle.id for each in self.cycles()):
            append_durably(self._ended, msgspec.json.encode(cycle) + b"\n")
        self._cycle.unlink(missing_ok=True)
        fsync_dir(self._folder)

    def cycles(self) -> list[Cycle]:
        """The cycles that ended; a last line that was torn by a crash is none. Raises `TrainingError` for another."""
        lines = self._whole().splitlines()
        try:
            return [msgspec.json.decode(line, type=Cycle) for line in lines]
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise TrainingError(f"{self._ended} is damaged ({error}): restore it or remove the line") from error

    def last_group(self) -> Marker | None:
        """The newest group that any cycle has trained on."""
        known = ((each.last_group_at, each.last_group) for each in self.cycles())
        return max(((at, name) for at, name in known if at is not None and name is not None), default=None)

    def _whole(self) -> bytes:
        """The ledger without what a torn write left at its end."""
        try:
            data = self._ended.read_bytes()
        except FileNotFoundError:
            return b""
        data = data[: data.rfind(b"\n") + 1]
        last = data[data.rfind(b"\n", 0, -1) + 1 :]
        with suppress(msgspec.MsgspecError, UnicodeDecodeError):
            msgspec.json.decode(last, type=Cycle)
            return data
        return data[: len(data) - len(last)]

    def _drop_torn(self) -> None:
        whole = self._whole()
        if self._ended.exists() and len(whole) != self._ended.stat().st_size:
            write_durably(self._ended, whole)
