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
from router.peak_memory import peak_rss_reader
from router.registry import PolicyRegistry
from router.settings import Mode, TrainingSection
from training.advantage import weigh
from training.batches import plan_steps
from training.crew import Crew, Work
from training.forecast import last_run, update_phase
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
_MIB = 1024 * 1024


def train(
    place: Place,
    config: TrainingSection,
    watch: Callable[[StepMetrics], None],
    cycle: str | None = None,
    crew: Crew | None = None,
) -> Report:
    """Train a successor of the champion on the log and register it; `watch` is called after every step.

    `cycle` is kept in the manifest; the `crew` that this process leads takes part. Raises `ConfigError` for a model or
    a log that cannot be used, `TrainingError` when no logged row is of the policy it names or training diverged,
    `RegistryError` and `OSError`; each before anything is registered.
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
    report.forecast = update_phase(groups, config, last_run(place.state_dir, dataset.base_model))
    folder = report.folder = _run_folder(place.state_dir, config)

    def record(step: StepMetrics) -> None:
        report.steps.append(step)
        append_durably(folder / METRICS, json.dumps(asdict(step)).encode() + b"\n")
        watch(step)

    crew = crew or Crew(0, 1)
    steps = plan_steps(weighted, config, crew.size)
    crew.share(Work(parent.path if parent else None, steps))
    trained = train_policy(policy, base.tokenizer, steps, config, record)
    report.ended = trained.ended
    report.peak_mb = peak_rss_reader()() / _MIB
    with tempfile.TemporaryDirectory(dir=folder) as adapter:
        save_adapter(policy, trained.weights, Path(adapter), dataset.base_model)
        registry = PolicyRegistry(place.state_dir)
        report.policy = registry.register(Path(adapter), manifest(report, groups, config), actor="train")
    try:
        write_durably(folder / REPORT, json.dumps(report.as_dict(), indent=2).encode() + b"\n")
        write_page(folder, read_report(folder))
    except (OSError, ThinkTwiceError) as error:
        report.counts.problems.append(f"the report in {folder} is not whole: {error}")
    return report


def follow(model: Path, config: TrainingSection, crew: Crew) -> None:
    """Take part in the run that another process leads, if there is one. Raises as `train`."""
    work = crew.share(None)
    if work is not None:
        base = open_base_model(model)
        train_policy(load_policy(base, work.parent, config), base.tokenizer, work.steps, config, lambda _: None)


def _run_folder(state_dir: Path, config: TrainingSection) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
    folder = state_dir / "training" / f"{stamp}-{recipe_sha256(config)[:8]}"
    folder.mkdir(parents=True)
    return folder
