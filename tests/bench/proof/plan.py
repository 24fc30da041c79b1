"""The committed plan of a proof: the task, its split, the arms, and every setting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from gateway.bench.tasks.catalogue import generate, task_named
from router.errors import ConfigError
from router.questions import Question

PLAN = Path(__file__).with_name("plan.toml")


class TaskPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A generated task (`bench tasks`) after so many worked examples."""

    name: str
    shots: int


class TrafficPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What every cycle asks: different prompts, each a group of fixed size."""

    prompts: int
    samples: int
    concurrency: int


class HeldoutPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many questions judge."""

    questions: int


class ArmPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An arm that trains; its settings win over those of `[training]`."""

    name: str
    mode: str = "grpo"
    epochs: int = 1
    shuffled: bool = False  # its rewards say nothing


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that decides the outcome but chance."""

    seed: int
    alpha: float
    cycles: int
    task: TaskPart
    traffic: TrafficPart
    heldout: HeldoutPart
    training: dict[str, Any]
    arms: tuple[ArmPart, ...]

    def heldout_questions(self) -> tuple[Question, ...]:
        """The questions that judge; traffic has none of them."""
        return self._questions()[: self.heldout.questions]

    def traffic_questions(self, cycle: int) -> tuple[Question, ...]:
        """The prompts of this cycle, from 0; no other cycle has them."""
        start = self.heldout.questions + cycle * self.traffic.prompts
        return self._questions()[start : start + self.traffic.prompts]

    def _questions(self) -> tuple[Question, ...]:
        count = self.heldout.questions + self.cycles * self.traffic.prompts
        return generate(task_named(self.task.name), count, self.task.shots, self.seed)


def load_plan(path: Path) -> Plan:
    """Read a plan. Raises `ConfigError`."""
    try:
        return msgspec.toml.decode(path.read_bytes(), type=Plan)
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(f"cannot use the plan {path}: {error}") from error


def rehearsal(plan: Plan) -> Plan:
    """The same stages at a size that shows that they run, and nothing else: another, shorter task."""
    return msgspec.structs.replace(
        plan,
        task=TaskPart("extract-person", 0),
        traffic=msgspec.structs.replace(plan.traffic, prompts=10),
        heldout=HeldoutPart(6),
        training=plan.training | {"completions_per_step": 8},
    )
