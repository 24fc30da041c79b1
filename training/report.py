"""What a run did, and the manifest of the policy that came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any

from router.settings import TrainingSection
from training.dataset import Counts
from training.forecast import Phase
from training.groups import Group
from training.identity import Identity
from training.recipe import objective, recipe, recipe_sha256
from training.shaping import Earned
from training.staleness import Staleness
from training.update import Ended, StepMetrics

_LIBRARIES = ("torch", "transformers", "peft", "trl")


@dataclass(slots=True)
class Report:
    """A run so far. `policy` is None until one is registered, and stays so when there was nothing to train on."""

    counts: Counts
    parent: str | None  # the champion that it goes on from; None: the base model
    base_model: str | None  # its name at the engine; None: no group named one
    cycle: str | None = None  # of `--if-due`, for which it runs
    policy: str | None = None
    ended: Ended | None = None
    identity: list[Identity] = field(default_factory=list)
    staleness: list[Staleness] = field(default_factory=list)
    shaping: dict[str, Earned] = field(default_factory=dict)  # by term; apart from the outcome
    forecast: Phase | None = None  # of the update, before it began
    peak_mb: float | None = None  # the process's own memory at its largest, resident
    steps: list[StepMetrics] = field(default_factory=list)
    folder: Path | None = None

    def as_dict(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        known = {each.name: getattr(self, each.name) for each in fields(self)}
        return known | {
            "counts": self.counts.as_dict(),
            "identity": [asdict(each) for each in self.identity],
            "staleness": [asdict(each) for each in self.staleness],
            "shaping": {name: asdict(each) for name, each in self.shaping.items()},
            "forecast": asdict(self.forecast) if self.forecast else None,
            "steps": [asdict(each) for each in self.steps],
            "folder": str(self.folder) if self.folder else None,
        }


def manifest(report: Report, groups: Sequence[Group], config: TrainingSection) -> dict[str, Any]:
    """What the registry keeps beside the adapter: where it came from, and how to make it again."""
    return {
        "kind": "lora",
        "base_model": report.base_model,
        "parent": report.parent,
        "cycle": report.cycle,
        "objective": objective(config),
        "config": recipe(config),
        "config_sha256": recipe_sha256(config),
        "data": {
            "groups": len(groups),
            "rows": report.counts.rows_kept,
            "positions": [list(span) for span in report.counts.positions],
            "first_group": groups[0].group_id,
            "last_group": groups[-1].group_id,
            "from": groups[0].created_at,
            "to": groups[-1].created_at,
            "mean_reward": fmean(row.reward for group in groups for row in group.rows),
            "shaping": {name: asdict(each) for name, each in report.shaping.items()},
            "label_sources": dict(report.counts.label_sources),
            "difficulty": dict(report.counts.difficulty),
            "dropped_groups": dict(report.counts.dropped_groups),
            "dropped_rows": dict(report.counts.dropped_rows),
        },
        "identity": [asdict(each) for each in report.identity],
        "staleness": [asdict(each) for each in report.staleness],
        "ended": report.ended,
        "steps": len(report.steps),
        "run": report.folder.name if report.folder else None,
        "last_step": asdict(report.steps[-1]),
        "libraries": {name: version(name) for name in _LIBRARIES},
    }
