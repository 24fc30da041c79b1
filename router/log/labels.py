"""Labels: what was learnt of a group after it was answered, one line each in a file beside the segments.

A label is appended and never edited. Nothing is looked up when it is written: whoever reads joins it to its group, and
it counts only when it comes from the group's tenant or from an administrator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from router.fs import append_line_durably, locked, replacing
from router.records import GroupRecord

MAX_NOTE = 4000  # characters
MAX_TEAM = 64
LABEL_FILE = "labels.jsonl"
_LOCK = "labels.lock"

Score = Annotated[float, Meta(ge=0, le=1)]
Rating = Annotated[int, Meta(ge=1, le=5)]
Minutes = Annotated[float, Meta(ge=-100_000, le=100_000)]
Team = Annotated[str, Meta(min_length=1, max_length=MAX_TEAM)]
Note = Annotated[str, Meta(max_length=MAX_NOTE)]


class LabelSource(StrEnum):
    """Who says so, the least trusted first."""

    FEEDBACK = "feedback"  # any key of the tenant
    AUDIT = "audit"  # an independent second verifier
    REVIEW = "review"  # a person, with an administrator's key


class Resolution(StrEnum):
    """What became of the task that the answer was for."""

    SOLVED = "solved"
    NOT_SOLVED = "not_solved"


class Label(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One word on the answer that a group returned. Times are Unix seconds."""

    group_id: str
    at: float
    source: LabelSource
    tenant: str  # of its author
    author: str  # the id of an API key, or the name of an audit
    admin: bool = False  # the author may speak of every tenant's groups
    outcome: Resolution | None = None
    score: Score | None = None
    rating: Rating | None = None
    team: Team | None = None
    minutes_saved: Minutes | None = None
    resolved_at: float | None = None
    note: Note | None = None

    @property
    def value(self) -> float | None:
        """How far the task was solved, in [0, 1]; None when the label does not say."""
        if self.outcome is not None:
            return float(self.outcome is Resolution.SOLVED)
        return self.score

    def counts_for(self, tenant: str) -> bool:
        """Whether its author may label a group of this tenant."""
        return self.admin or self.tenant == tenant


class TrustedLabels:
    """The one label that holds for each group: the newest of the most trusted source that says how far it was solved.

    A review overrules an audit and an audit overrules feedback, whenever each was written: feedback comes from any key
    of the tenant, so it cannot take back what an independent check or a person found. Memory grows with the labels.
    """

    def __init__(self, labels: Iterable[Label]) -> None:
        self._labels: dict[str, list[Label]] = {}
        for label in labels:
            if label.value is not None:
                self._labels.setdefault(label.group_id, []).append(label)

    def of(self, record: GroupRecord) -> Label | None:
        """The label of this group, if any counts."""
        counted = [each for each in self._labels.get(record.group_id, ()) if each.counts_for(record.tenant)]
        order = list(LabelSource) if counted else []
        return max(reversed(counted), key=lambda each: order.index(each.source), default=None)


def append_label(log_dir: Path, label: Label) -> None:
    """Add a label; it is on disk when this returns. Raises `OSError`; then a reader sees nothing of it."""
    with locked(log_dir / _LOCK):
        append_line_durably(log_dir / LABEL_FILE, msgspec.json.encode(label))


def read_labels(log_dir: Path, start: int = 0) -> Iterator[tuple[int, Label | None]]:
    """The labels from byte offset `start` on, oldest first, each with the offset behind it; None for a damaged line.

    A last line without its end was never acknowledged, so it is passed by.
    """
    try:
        file = (log_dir / LABEL_FILE).open("rb")
    except FileNotFoundError:
        return
    with file:
        file.seek(start)
        for line in file:
            if not line.endswith(b"\n"):
                return
            start += len(line)
            yield start, _decoded(line)


def forget_labels(log_dir: Path, forgotten: Callable[[Label], bool]) -> int:
    """Remove the labels that `forgotten` names, the file replaced by rename; returns how many there were."""
    with locked(log_dir / _LOCK):
        removed = sum(label is not None and forgotten(label) for _, label in read_labels(log_dir))
        if not removed:
            return 0
        with (log_dir / LABEL_FILE).open("rb") as old, replacing(log_dir / LABEL_FILE) as new:
            for line in old:
                label = _decoded(line)
                if label is None or not forgotten(label):
                    new.write(line)
    return removed


def _decoded(line: bytes) -> Label | None:
    try:
        return msgspec.json.decode(line, type=Label)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
