"""What a cycle will take before it begins: tokens, hours, memory and dollars, phase by phase, and what to do instead.

Everything is taken from what was measured here: the log, the runs and the evaluations before. What was never measured
is unknown, not guessed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from router.records import GroupRecord
from router.settings import TrainingSection
from training.groups import Group
from training.ledger import Cycle
from training.page import REPORT

ARMS = 2  # an evaluation asks candidate and champion
_MOST = 0.5  # a share of the failures, or of the groups, from which their cause comes first


@dataclass(slots=True)
class Traffic:
    """The groups that training reads, before it drops those without a gradient: what they took, and why they failed."""

    groups: int = 0
    samples: int = 0
    tokens: int = 0  # of prompts and completions
    completion_tokens: int = 0
    failed_tokens: int = 0  # of the completions that earned nothing
    verify_s: float = 0.0
    cost_usd: float | None = 0.0  # None: one of them had no price
    failed: int = 0  # samples
    truncated: int = 0  # of those
    unanswered: int = 0  # of those, ended by themselves and without a final answer
    mixed: int = 0  # groups of several judged samples, by how these turned out
    all_failed: int = 0
    all_passed: int = 0

    def add(self, record: GroupRecord) -> None:
        """Count a group."""
        self.groups += 1
        self.samples += len(record.samples)
        self.tokens += record.prompt_tokens + record.completion_tokens
        self.completion_tokens += record.completion_tokens
        self.cost_usd = None if self.cost_usd is None or record.cost_usd is None else self.cost_usd + record.cost_usd
        for sample in record.samples:
            self.verify_s += sum(check.ms for check in sample.checks) / 1000
            if sample.reward == 0:
                self.failed += 1
                self.failed_tokens += len(sample.completion_token_ids or ())
                self.truncated += sample.truncated
                self.unanswered += sample.answer_key is None and not sample.truncated
        rewards = [sample.reward for sample in record.samples if sample.reward is not None]
        if len(rewards) > 1:
            spread = len(set(rewards)) > 1
            self.mixed += spread
            self.all_failed += not spread and rewards[0] == 0
            self.all_passed += not spread and rewards[0] > 0

    def advice(self) -> Iterator[str]:
        """The simpler routes, where what was logged says that training would be a detour; none when it would not."""
        if self.failed and self.truncated >= _MOST * self.failed:
            yield (
                f"{self.truncated} of {self.failed} failed completions were cut off at their token limit: raise it, or "
                "ask for shorter answers, before training"
            )
        if self.failed and self.unanswered >= _MOST * self.failed:
            yield (
                f"{self.unanswered} of {self.failed} failed completions had no final answer: say in the prompt how to "
                "give it, or learn the format first with --mode rft"
            )
        judged = self.mixed + self.all_failed + self.all_passed
        if judged and self.all_failed >= _MOST * judged:
            yield (
                f"{self.all_failed} of {judged} groups solved nothing: they carry no gradient; learn from verified "
                "answers first (--mode rft), those of a larger model too, or ask easier prompts"
            )
        if judged and self.all_passed >= _MOST * judged:
            yield f"{self.all_passed} of {judged} groups solved everything: they carry no gradient; ask harder prompts"


@dataclass(frozen=True, slots=True)
class Past:
    """The update steps of an earlier run."""

    tokens: int  # that the loss saw
    seconds: float
    peak_mb: float | None


@dataclass(frozen=True, slots=True)
class Phase:
    """What one part of a cycle takes; None is unknown."""

    name: str
    tokens: int | None
    seconds: float | None
    memory_mb: float | None
    usd: float | None
    basis: str  # where the figures come from


def last_run(state_dir: Path, base_model: str | None) -> Past | None:
    """The newest run of this base model that took a step; its report says what it took."""
    for path in sorted((state_dir / "training").glob(f"*/{REPORT}"), reverse=True):
        try:
            report: dict[str, Any] = json.loads(path.read_bytes())
        except (OSError, ValueError):  # a report is for reading only: a damaged one tells nothing
            continue
        steps = report.get("steps") or ()
        if steps and report.get("base_model") == base_model:
            tokens, seconds = sum(step["tokens"] for step in steps), sum(step["seconds"] for step in steps)
            return Past(tokens, seconds, report.get("peak_mb"))
    return None


def update_phase(groups: Iterable[Group], config: TrainingSection, past: Past | None) -> Phase:
    """The optimizer steps over these groups, at the pace of an earlier run."""
    tokens = config.epochs * sum(row.actions for group in groups for row in group.rows if not row.truncated)
    seconds = tokens * past.seconds / past.tokens if past and past.tokens else None
    basis = "the last run's pace and memory" if past else "no run of this model yet"
    return Phase("update", tokens, seconds, past.peak_mb if past else None, _usd(config, seconds), basis)


def phases(
    traffic: Traffic,
    groups: Iterable[Group],
    questions: int,
    cycles: Iterable[Cycle],
    config: TrainingSection,
    past: Past | None,
) -> list[Phase]:
    """Every phase of the next cycle, with what its groups have taken already; `questions` are those it is judged on."""
    per_sample = traffic.tokens / traffic.samples if traffic.samples else None
    judged = [cycle for cycle in cycles if cycle.pairs and "evaluate" in cycle.seconds]
    pace = judged[-1].seconds["evaluate"] / judged[-1].pairs if judged and judged[-1].pairs else None
    asked = None if pace is None else pace * questions
    evaluation = None if per_sample is None else round(ARMS * questions * per_sample)
    price = traffic.cost_usd / traffic.tokens if traffic.cost_usd and traffic.tokens else None
    paid = None if price is None or evaluation is None else price * evaluation
    share = traffic.failed_tokens / traffic.tokens if traffic.tokens else 0.0
    wasted = None if traffic.cost_usd is None else share * traffic.cost_usd
    return [
        Phase("generation", traffic.tokens, None, None, traffic.cost_usd, "the log: spent already, by serving"),
        Phase("verification", None, traffic.verify_s, None, None, "the log: seconds of the checks, spent already"),
        Phase("failed attempts", traffic.failed_tokens, None, None, wasted, "the log: part of the generation"),
        update_phase(groups, config, past),
        Phase("evaluation", evaluation, asked, None, paid, "the log's tokens a sample; the last evaluation's pace"),
    ]


def _usd(config: TrainingSection, seconds: float | None) -> float | None:
    price = config.usd_per_hour
    return None if price is None or seconds is None else price * seconds / 3600
