"""Metrics of what other processes leave in the state and log directories: training, policies, calibration, segments.

Every serving process shows the same, so a dashboard takes their maximum and never their sum.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from gateway.telemetry.collected import collected, series
from router.calibration.file import FILE_NAME, load_calibration
from router.errors import CalibrationError, RegistryError, TrainingError
from router.policy_history import Action
from router.registry import PolicyRegistry
from router.stats import wilson
from router.training_facts import TrainingFacts, load_training_facts

POLICIES = 10  # shown, the newest
_CONSUMER = ("trainer",)
_SUITE = ("policy", "suite")

_RUNS = collected("training_runs_total", "counter", "Training cycles by how they ended", ("result",))
_LAST_SUCCESS = collected(
    "training_last_success_timestamp_seconds",
    "gauge",
    "When a training cycle last brought a policy to a verdict, Unix time",
)
_LAST_LOOK = collected(
    "training_last_look_timestamp_seconds", "gauge", "When `train --if-due` last came to its end, due or not, Unix time"
)
_DURATION = collected("training_duration_seconds", "gauge", "Training time of the last cycle")
_TRAINING_COST = collected(
    "training_cost_usd_total", "counter", "Training time of all cycles at `[costs] trainer_usd_per_hour`"
)
_LAG_RECORDS = collected(
    "grouplog_lag_records", "gauge", "Groups that may train and that no cycle has read, when one last looked",
    ("consumer",),
)  # fmt: skip
_LAG_SECONDS = collected(
    "grouplog_lag_seconds", "gauge", "Age of the newest group that a cycle has read", ("consumer",)
)
_SEGMENTS = collected("grouplog_segments", "gauge", "Files of the group log by their state", ("state",))
_HELDOUT_RATE = collected(
    "heldout_solve_rate", "gauge", "Share of held-out questions that a policy solved when last evaluated", _SUITE
)
_HELDOUT_LOW = collected("heldout_solve_rate_ci_low", "gauge", "Lower 95 % Wilson bound of the same", _SUITE)
_HELDOUT_HIGH = collected("heldout_solve_rate_ci_high", "gauge", "Upper 95 % Wilson bound of the same", _SUITE)
_HELDOUT_N = collected("heldout_n", "gauge", "Held-out questions behind it", _SUITE)
_STAGE = collected(
    "model_stage", "gauge", f"1 for the stage of each of the newest {POLICIES} policies", ("policy", "stage")
)
_ROUTE_ERROR = collected(
    "route_calibration_error",
    "gauge",
    "Expected calibration error of the router's difficulty on prompts it was not fitted on",
)
FAMILIES = (
    _RUNS, _LAST_SUCCESS, _LAST_LOOK, _DURATION, _TRAINING_COST, _LAG_RECORDS, _LAG_SECONDS, _SEGMENTS,
    _HELDOUT_RATE, _HELDOUT_LOW, _HELDOUT_HIGH, _HELDOUT_N, _STAGE, _ROUTE_ERROR,
)  # fmt: skip
RESULTS = ("promoted", "held", "dropped", "withdrawn", "failed")

_log = logging.getLogger(__name__)


class Stage(StrEnum):
    """How far a policy has come."""

    CANDIDATE = "candidate"
    CANARY = "canary"
    PROMOTED = "promoted"
    RETIRED = "retired"  # another was promoted after it
    ROLLED_BACK = "rolled_back"  # or withdrawn


class StateFiles(Collector):
    """Reads the files at every scrape; what cannot be read is left out, so that it goes stale and not to 0."""

    def __init__(
        self,
        state_dir: Path,
        log_dir: Path,
        trainer_usd_per_hour: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._state_dir, self._log_dir, self._clock = state_dir, log_dir, clock
        self._usd_per_hour = trainer_usd_per_hour
        self._calibrated: tuple[int, float] | None = None  # when the file was changed, and its error: it is large

    def collect(self) -> Iterator[Metric]:
        """The families that have values."""
        for read in (self._training, self._stages, self._calibration, self._segments):
            try:
                yield from read()
            except (TrainingError, RegistryError, CalibrationError, OSError) as error:
                _log.warning("some metrics are missing: %s", error)

    def trained_usd(self) -> float | None:
        """What all training has cost so far, in US dollars; None without a price, or while the file is damaged."""
        try:
            return self._priced(load_training_facts(self._state_dir))
        except TrainingError:
            return None

    def _priced(self, facts: TrainingFacts) -> float | None:
        return None if self._usd_per_hour is None else facts.seconds / 3600 * self._usd_per_hour

    def _training(self) -> Iterator[Metric]:
        facts = load_training_facts(self._state_dir)
        yield series(_RUNS, {(result,): facts.ended.get(result, 0) for result in RESULTS})
        told = ((_LAST_SUCCESS, facts.last_success), (_LAST_LOOK, facts.looked_at), (_DURATION, facts.last_seconds))
        for family, value in told:
            if value is not None:
                yield series(family, {(): value})
        if (usd := self._priced(facts)) is not None:
            yield series(_TRAINING_COST, {(): usd})
        if facts.read_until is not None:
            yield series(_LAG_RECORDS, {_CONSUMER: facts.waiting_groups})
            yield series(_LAG_SECONDS, {_CONSUMER: max(0.0, self._clock() - facts.read_until)})
        yield from _heldout(facts)

    def _stages(self) -> Iterator[Metric]:
        stages = _stages(PolicyRegistry(self._state_dir))
        shown: dict[tuple[str, ...], float] = {
            (policy, each): float(stage is each) for policy, stage in stages.items() for each in Stage
        }
        yield series(_STAGE, shown)

    def _calibration(self) -> Iterator[Metric]:
        path = self._state_dir / FILE_NAME
        if not path.exists():
            return
        changed = path.stat().st_mtime_ns
        if self._calibrated is None or self._calibrated[0] != changed:
            self._calibrated = (changed, load_calibration(path).quality.ece)
        yield series(_ROUTE_ERROR, {(): self._calibrated[1]})

    def _segments(self) -> Iterator[Metric]:
        counts = {state: sum(1 for _ in self._log_dir.glob(f"*/*.{state}")) for state in ("open", "sealed", "parquet")}
        yield series(_SEGMENTS, {(state,): number for state, number in counts.items()})


def _heldout(facts: TrainingFacts) -> Iterator[Metric]:
    rates = {(each.policy, each.suite): wilson(each.solved, each.n) for each in facts.scores if each.n}
    for family, name in ((_HELDOUT_RATE, "value"), (_HELDOUT_LOW, "low"), (_HELDOUT_HIGH, "high"), (_HELDOUT_N, "n")):
        yield series(family, {labels: getattr(rate, name) for labels, rate in rates.items()})


def _stages(registry: PolicyRegistry) -> dict[str, Stage]:
    """The newest policies by their stage, as the history tells it."""
    champion, stages = registry.champion(), dict[str, Stage]()
    for entry in registry.history():
        gone = Stage.RETIRED if entry.action is Action.PROMOTE else Stage.ROLLED_BACK
        if entry.action in (Action.PROMOTE, Action.ROLLBACK, Action.WITHDRAW) and entry.previous is not None:
            stages[entry.previous] = gone
        if entry.action is Action.REGISTER and entry.policy is not None:
            stages[entry.policy] = Stage.CANDIDATE
    if champion.policy is not None:
        stages[champion.policy] = Stage.PROMOTED
    if champion.canary is not None:
        stages[champion.canary.policy] = Stage.CANARY
    newest = sorted(stages, key=lambda name: int(name.split("-")[1]))[-POLICIES:]
    return {name: stages[name] for name in newest}
