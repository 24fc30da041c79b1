"""One training run: read, count, check, train, register. Serving is not touched; promotion is another step."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from router.errors import TrainingError
from router.fs import append_durably, write_durably
from router.registry import PolicyRegistry
from router.settings import TrainingSection
from training.advantage import weigh
from training.batches import plan_steps
from training.dataset import Dataset, Group
from training.identity import check_identity
from training.model import load_policy, open_base_model, save_adapter
from training.place import Place, read_trainable
from training.recipe import recipe_sha256
from training.report import Report, manifest
from training.update import StepMetrics, train_policy

METRICS, REPORT = "metrics.jsonl", "report.json"


def train(
    place: Place, config: TrainingSection, watch: Callable[[StepMetrics], None], cycle: str | None = None
) -> Report:
    """Train a successor of the champion on the log and register it; `watch` is called after every step.

    `cycle` is kept in the manifest. Raises `ConfigError` for a model or a log that cannot be used, `TrainingError` when
    no logged row is of the policy it names or training diverged, `RegistryError` and `OSError`; each before anything is
    registered.
    """
    parent, base = place.champion(), open_base_model(place.model)
    dataset = read_trainable(place, base, parent, config.max_groups)
    report = Report(dataset.counts, parent.name if parent else None, dataset.base_model, cycle)
    if dataset.base_model is None:
        return report

    policy = load_policy(base, parent.path if parent else None, config)
    report.identity = check_identity(policy, dataset.groups)
    groups = _of_this_policy(dataset, report, config.identity_kl)
    folder = report.folder = _run_folder(place.state_dir, config)

    def record(step: StepMetrics) -> None:
        report.steps.append(step)
        append_durably(folder / METRICS, json.dumps(asdict(step)).encode() + b"\n")
        watch(step)

    report.ended = train_policy(policy, base.tokenizer, plan_steps(weigh(groups), config), config, record)
    with tempfile.TemporaryDirectory(dir=folder) as adapter:
        save_adapter(policy, Path(adapter), dataset.base_model)
        registry = PolicyRegistry(place.state_dir)
        report.policy = registry.register(Path(adapter), manifest(report, groups, config), actor="train")
    try:
        write_durably(folder / REPORT, json.dumps(report.as_dict(), indent=2).encode() + b"\n")
    except OSError as error:
        report.counts.problems.append(f"{folder / REPORT}: not written: {error}")
    return report


def _of_this_policy(dataset: Dataset, report: Report, limit: float) -> list[Group]:
    """The groups of the sources whose rows the policy reproduces; the others are counted. None left is an error."""
    foreign = {each.source: each for each in report.identity if not each.kl < limit}
    groups = [group for group in dataset.groups if group.source not in foreign]
    found = [
        f"the rows of {each.source} are not of the policy they name: mean KL {each.kl:.3g} nats a token over "
        f"{each.rows} rows, the limit is {limit:g} (another adapter, temperature, logprobs mode or quantisation?)"
        for each in foreign.values()
    ]
    if not groups:
        raise TrainingError("; ".join(found))
    counts = report.counts
    counts.problems += found
    counts.dropped_groups.update({"identity": counts.groups_kept - len(groups)} if foreign else {})
    counts.groups_kept = len(groups)
    counts.rows_kept = sum(not row.truncated for group in groups for row in group.rows)
    return groups


def _run_folder(state_dir: Path, config: TrainingSection) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
    folder = state_dir / "training" / f"{stamp}-{recipe_sha256(config)[:8]}"
    folder.mkdir(parents=True)
    return folder
