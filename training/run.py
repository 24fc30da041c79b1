"""One training run: read, count, check, train, register. Serving is not touched; promotion is another step."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from router.errors import ThinkTwiceError
from router.fs import append_durably, write_durably
from router.registry import PolicyRegistry
from router.settings import Mode, TrainingSection
from training.advantage import weigh
from training.batches import plan_steps
from training.imitation import as_examples, distinct
from training.model import load_policy, open_base_model, save_adapter
from training.page import REPORT, read_report, write_page
from training.place import Place, read_trainable
from training.recipe import recipe_sha256
from training.report import Report, manifest
from training.shaping import earned, shaped_rewards, terms
from training.update import StepMetrics, train_policy
from training.vetting import vet

METRICS = "metrics.jsonl"


def train(
    place: Place, config: TrainingSection, watch: Callable[[StepMetrics], None], cycle: str | None = None
) -> Report:
    """Train a successor of the champion on the log and register it; `watch` is called after every step.

    `cycle` is kept in the manifest. Raises `ConfigError` for a model or a log that cannot be used, `TrainingError` when
    no logged row is of the policy it names or training diverged, `RegistryError` and `OSError`; each before anything is
    registered.
    """
    parent, base = place.champion(), open_base_model(place.model)
    dataset = read_trainable(place, base, parent, config)
    report = Report(dataset.counts, parent.name if parent else None, dataset.base_model, cycle)
    if dataset.base_model is None:
        return report

    policy = load_policy(base, parent.path if parent else None, config)
    if config.mode is Mode.RFT:
        groups = distinct(dataset.groups, report.counts)
        weighted = as_examples(groups)
    else:
        before = place.champions_before(parent)
        older = {each.name if each else dataset.base_model: each.path if each else None for each in before}
        groups = vet(policy, dataset.groups, older, report, config.identity_kl)
        shaping = terms(config)
        report.shaping = earned(groups, shaping)
        weighted = weigh(groups, [shaped_rewards(group, shaping) for group in groups])
    report.counts.keep(groups)
    folder = report.folder = _run_folder(place.state_dir, config)

    def record(step: StepMetrics) -> None:
        report.steps.append(step)
        append_durably(folder / METRICS, json.dumps(asdict(step)).encode() + b"\n")
        watch(step)

    report.ended = train_policy(policy, base.tokenizer, plan_steps(weighted, config), config, record)
    with tempfile.TemporaryDirectory(dir=folder) as adapter:
        save_adapter(policy, Path(adapter), dataset.base_model)
        registry = PolicyRegistry(place.state_dir)
        report.policy = registry.register(Path(adapter), manifest(report, groups, config), actor="train")
    try:
        write_durably(folder / REPORT, json.dumps(report.as_dict(), indent=2).encode() + b"\n")
        write_page(folder, read_report(folder))
    except (OSError, ThinkTwiceError) as error:
        report.counts.problems.append(f"the report in {folder} is not whole: {error}")
    return report


def _run_folder(state_dir: Path, config: TrainingSection) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
    folder = state_dir / "training" / f"{stamp}-{recipe_sha256(config)[:8]}"
    folder.mkdir(parents=True)
    return folder
