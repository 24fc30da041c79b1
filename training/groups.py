"""One logged group as training sees it: the rows of it that may train, and how hard its prompt was measured to be."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from statistics import fmean

from router.enums import Stopped
from router.records import GroupRecord
from router.settings import Mode
from training.rows import ModelLimits, Row, training_row, verified_row

_CUT_SHORT = (Stopped.DEADLINE, Stopped.BUDGET, Stopped.SHED)
_HARD_BELOW, _EASY_ABOVE = 0.25, 0.75  # pass rates: with 5 samples, one success is hard and four are easy


class Difficulty(StrEnum):
    """Of a prompt, for the policy that drew the group."""

    HARD = "hard"
    MIDDLE = "middle"
    EASY = "easy"
    UNMEASURED = "unmeasured"


@dataclass(frozen=True, slots=True)
class Group:
    """The usable rows of one request, in launch order."""

    group_id: str
    created_at: float  # Unix time, seconds
    source: str  # the engine, with its version, that logged it
    fixed_size: bool  # how many samples were drawn did not depend on how they turned out
    rows: tuple[Row, ...]
    policy: str = ""  # its name at the engine
    pass_rate: float | None = None  # see `_measured_pass_rate`

    @property
    def zero_spread(self) -> bool:
        """Whether all its rewards are equal."""
        return len({row.reward for row in self.rows}) == 1

    @property
    def difficulty(self) -> Difficulty:
        """By its pass rate."""
        if self.pass_rate is None:
            return Difficulty.UNMEASURED
        if _HARD_BELOW <= self.pass_rate <= _EASY_ABOVE:
            return Difficulty.MIDDLE
        return Difficulty.HARD if self.pass_rate < _HARD_BELOW else Difficulty.EASY


def group_of(record: GroupRecord, mode: Mode, limits: ModelLimits, dropped: Counter[str]) -> Group:
    """The rows of this group that may train; the others are counted in `dropped` by their reason."""
    rows: list[Row] = []
    fixed = _fixed_size(record)
    as_row = training_row if mode is Mode.GRPO else verified_row
    for sample in sorted(record.samples, key=lambda each: each.index):
        found = as_row(record, sample, limits)
        if isinstance(found, Row):
            rows.append(found)
        else:
            dropped[found] += 1
    return Group(
        group_id=record.group_id,
        created_at=record.created_at,
        source=f"{record.engine} {record.engine_version}",
        fixed_size=fixed,
        rows=tuple(rows),
        policy=record.policy,
        pass_rate=_measured_pass_rate(record, fixed),
    )


def _measured_pass_rate(record: GroupRecord, fixed: bool) -> float | None:
    """How often the policy solves this prompt, by what may choose among groups without a bias; None when nothing did.

    Of a group of fixed size the mean reward of its judged samples. Where these pass or fail, the expected gradient of
    the group, given how many passed, points the same way whatever that number is: a choice by it weighs a prompt and
    does not turn its gradient. Of a group that could end early that does not hold (docs/training.md, Advantages); there
    it is the calibrated estimate that was logged before the first sample.
    """
    if not fixed:
        return None if record.calibrated is None else 1 - record.difficulty
    own = (sample for sample in record.samples if sample.policy == record.policy and not sample.censored)
    rewards = [sample.reward for sample in own if sample.reward is not None and isfinite(sample.reward)]
    return fmean(rewards) if rewards else None


def no_signal(group: Group, mode: Mode) -> str | None:
    """Why the group has no gradient. One that was stopped early stays, all equal or not: dropping it is a bias."""
    if all(row.truncated for row in group.rows):
        return "no_rows"
    if mode is Mode.GRPO and group.fixed_size and len(group.rows) > 1 and group.zero_spread:
        return "zero_spread"
    return None


def _fixed_size(record: GroupRecord) -> bool:
    """Whether the plan left no choice: an audited group, or one whose least and largest size are equal."""
    bounds = record.verification.get("samples") or {}
    planned = record.audit or bounds.get("min", 1) >= record.planned_samples
    return planned and record.stopped not in _CUT_SHORT and not any(sample.censored for sample in record.samples)
