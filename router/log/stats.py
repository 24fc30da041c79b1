"""What a group log holds, counted in one pass and in memory that does not grow with the log."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from router.enums import Purpose
from router.records import GroupRecord

_DIMENSIONS = ("status", "route", "purpose", "tenant")


@dataclass(slots=True)
class LogStats:
    """Counts over the groups that were added."""

    groups: int = 0
    samples: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    heldout: int = 0
    trainable_groups: int = 0  # consented, not held out, not for evaluation
    rl_eligible: int = 0  # samples
    ineligible: Counter[str] = field(default_factory=Counter)  # samples, by reason
    by: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in _DIMENSIONS})
    first: float | None = None  # Unix time of the oldest group
    last: float | None = None

    def add(self, record: GroupRecord) -> None:
        """Count one group."""
        self.groups += 1
        self.samples += len(record.samples)
        self.prompt_tokens += record.prompt_tokens
        self.completion_tokens += record.completion_tokens
        self.heldout += record.heldout
        other = record.heldout or record.purpose in (Purpose.EVAL, Purpose.SHADOW)
        self.trainable_groups += record.train_consent and not other
        for sample in record.samples:
            if sample.rl_eligible:
                self.rl_eligible += 1
            else:
                self.ineligible[sample.ineligible_reason or "unknown"] += 1
        for name, counter in self.by.items():
            counter[str(getattr(record, name))] += 1
        self.first = record.created_at if self.first is None else min(self.first, record.created_at)
        self.last = record.created_at if self.last is None else max(self.last, record.created_at)

    def as_dict(self) -> dict[str, Any]:
        """The counts as plain JSON values."""
        return {
            "groups": self.groups,
            "samples": self.samples,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "heldout_groups": self.heldout,
            "trainable_groups": self.trainable_groups,
            "rl_eligible_samples": self.rl_eligible,
            "ineligible_samples": dict(self.ineligible.most_common()),
            **{f"by_{name}": dict(counter.most_common()) for name, counter in self.by.items()},
            "first": self.first,
            "last": self.last,
        }
