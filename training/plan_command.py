"""`thinktwice train plan`: what a cycle would take, and whether something simpler comes first. Changes nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from router.log.groups import OnCorrupt
from router.questions import load_questions
from router.settings import TrainingSection
from training.curriculum import Choice
from training.dataset import read_dataset
from training.forecast import Phase, Traffic, last_run, phases
from training.ledger import Ledger
from training.model import open_base_model
from training.place import Place, accepted

_PIPE_WIDTH = 140  # columns of a table that no terminal shows


def plan(place: Place, config: TrainingSection, as_json: bool) -> None:
    """Print the forecast, as tables or as one JSON object.

    Raises `ConfigError` for a model or held-out questions that cannot be used, `RecordError`, `RegistryError`.
    """
    accepts = accepted(place, open_base_model(place.model), place.champion(), config)
    traffic, choice = Traffic(), Choice(config.max_groups, config.curriculum)
    dataset = read_dataset(place.log_dir, accepts, choice, OnCorrupt.SKIP, traffic.add)
    groups = dataset.groups
    questions = len(load_questions(config.eval_data)) if config.eval_data else 0
    past = last_run(place.state_dir, dataset.base_model)
    planned = phases(traffic, groups, questions, Ledger(place.state_dir / "training").cycles(), config, past)
    advice = list(traffic.advice())
    if as_json:
        report = {
            "groups": len(groups),
            "due_groups": config.due_groups,
            "dropped_groups": dataset.counts.dropped_groups,
            "traffic": asdict(traffic),
            "phases": [asdict(phase) for phase in planned],
            "advice": advice,
        }
        print(json.dumps(report))
        return
    _show(planned, len(groups), config.due_groups)
    for line in advice or ["nothing simpler comes first"]:
        print(f"advice: {line}")


def _show(planned: Sequence[Phase], groups: int, due: int) -> None:
    table = Table(title=f"{groups} groups would train ({due} make a cycle due)", title_justify="left")
    for column in ("phase", "tokens", "hours", "memory MB", "$", "from"):
        table.add_column(column)
    for each in planned:
        hours = None if each.seconds is None else each.seconds / 3600
        table.add_row(
            each.name, _number(each.tokens, ",d"), _number(hours, ".3g"), _number(each.memory_mb, ",.0f"),
            _number(each.usd, ".4g"), each.basis,
        )  # fmt: skip
    Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False).print(table)


def _number(value: float | None, form: str) -> str:
    return "?" if value is None else format(value, form)
