"""One training run: read, count, check, train, register. Serving is not touched; promotion is another step."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from router.errors import TrainingError
from router.fs import append_durably, write_durably
from router.registry import Policy, PolicyRegistry
from router.settings import TrainingSection
from training.advantage import weigh
from training.batches import plan_steps
from training.dataset import Accepts, Dataset, Group, read_dataset
from training.identity import check_identity, template_fingerprint
from training.model import BaseModel, load_policy, open_base_model, save_adapter
from training.recipe import recipe_sha256
from training.report import Report, manifest
from training.update import StepMetrics, train_policy

METRICS, REPORT = "metrics.jsonl", "report.json"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run reads and writes."""

    log_dir: Path
    state_dir: Path
    model: Path  # folder of the base model
    base_model: str | None = None  # its name at the engine; None: the single one that the log names
    heldout_share: float = 0.0


def train(place: Place, config: TrainingSection, watch: Callable[[StepMetrics], None]) -> Report:
    """Train a successor of the champion on the log and register it; `watch` is called after every step.

    Raises `ConfigError` for a model or a log that cannot be used, `TrainingError` when no logged row is of the policy
    it names or training diverged, `RegistryError` and `OSError`.
    """
    registry = PolicyRegistry(place.state_dir)
    champion = registry.champion().policy
    parent = registry.get(champion) if champion else None
    base = open_base_model(place.model)
    dataset = _read(place, config, base, parent)
    report = Report(dataset.counts, champion, dataset.base_model)
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
        report.policy = registry.register(Path(adapter), manifest(report, groups, config), actor="train")
    write_durably(folder / REPORT, json.dumps(report.as_dict(), indent=2).encode() + b"\n")
    return report


def _read(place: Place, config: TrainingSection, base: BaseModel, parent: Policy | None) -> Dataset:
    accepts = Accepts(
        champion=parent.name if parent else None,
        base_model=place.base_model or (parent.manifest.get("base_model") if parent else None),
        template_fingerprint=template_fingerprint(base.tokenizer),
        limits=base.limits,
        heldout_share=place.heldout_share,
    )
    return read_dataset(place.log_dir, accepts, config.max_groups)


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
