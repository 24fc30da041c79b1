"""The optimizer steps of a run: one line of metrics each, ended early when the policy drifts too far from the log."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from statistics import fmean
from typing import Any

from accelerate import PartialState
from torch import Tensor
from transformers import TrainerCallback

from router.errors import TrainingError
from router.settings import Mode, Objective, TrainingSection
from training.batches import Step
from training.collate import collate_steps
from training.drift import Drift, DriftMeter
from training.model import adapter_weights, quiet_peft
from training.seam import CISPO_CAP, OfflineGRPOTrainer, trl_arguments


class Ended(StrEnum):
    """Why the last step was the last."""

    DONE = "done"
    KL = "kl"
    CLIPPED = "clipped"


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """One optimizer step. All but the gradient norm's effect is measured before the step's update."""

    step: int  # from 1
    steps: int  # planned
    rows: int
    tokens: int  # loss tokens
    reward: float  # mean outcome of the rows, unshaped
    length: float  # mean loss tokens of a row
    loss: float
    grad_norm: float  # before it is clipped
    entropy: float  # mean over the micro-batches, nats a token
    kl: float | None  # from the logged policy (`cispo`: from the first one of the run), mean k3 in nats a token
    ratio: float | None  # mean of its probability of a token to the logged one
    clip_fraction: float | None
    ess: float | None  # effective sample size of the importance weights, as a share of the tokens
    seconds: float


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of the steps."""

    ended: Ended
    weights: dict[str, Tensor]  # the adapter's, whole


def train_policy(
    policy: Any, tokenizer: Any, steps: Sequence[Step], config: TrainingSection, report: Callable[[StepMetrics], None]
) -> Trained:
    """Take all `steps` (at least one) on `policy`, in place, unless it drifts beyond the configured limits.

    Raises `TrainingError` when the loss is not finite; what `report` raises passes through.
    """
    cispo = config.objective is Objective.CISPO
    meter = DriftMeter(0.0, CISPO_CAP) if cispo else DriftMeter(config.clip_low, config.clip_high)
    watch = _Watch(steps, config, meter, report)
    with tempfile.TemporaryDirectory() as scratch, quiet_peft():
        share = len(steps[0].micro_batches) // PartialState().num_processes
        arguments = trl_arguments(config, len(steps), share, Path(scratch))
        trainer = OfflineGRPOTrainer(policy, tokenizer, arguments, collate_steps(steps), meter, [watch])
        decouple = cispo and config.mode is Mode.GRPO
        if decouple or config.kl_beta:
            trainer.add_callback(_Anchor(trainer, decouple))
        trainer.train()
        return Trained(watch.ended, adapter_weights(policy))


class _Anchor(TrainerCallback):
    """Anchors when the model lies where it trains: before, one that is to be sharded is on no GPU."""

    def __init__(self, trainer: OfflineGRPOTrainer, decouple: bool) -> None:
        self._trainer, self._decouple = trainer, decouple

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Before the first batch is taken."""
        self._trainer.anchor(self._decouple)


class _Watch(TrainerCallback):
    """Reads every step's numbers where the loop logs them."""

    def __init__(
        self, steps: Sequence[Step], config: TrainingSection, meter: DriftMeter, report: Callable[[StepMetrics], None]
    ) -> None:
        self._steps, self._config, self._meter, self._report = steps, config, meter, report
        self._started = time.perf_counter()
        self.ended = Ended.DONE

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Report the step that just ended, and end the run when it went too far."""
        if "loss" not in logs:  # the summary at the end
            return
        drift, loss = self._meter.take(), float(logs["loss"])
        if not math.isfinite(loss):
            raise TrainingError(f"the loss of step {state.global_step} is not finite: lower the learning rate")
        self._report(self._metrics(state.global_step, logs, drift))
        if (drift.kl or 0) > self._config.stop_kl:
            self.ended = Ended.KL
        elif (drift.clip_fraction or 0) > self._config.stop_clip_fraction:
            self.ended = Ended.CLIPPED
        control.should_training_stop |= self.ended is not Ended.DONE

    def _metrics(self, step: int, logs: dict[str, Any], drift: Drift) -> StepMetrics:
        started, self._started = self._started, time.perf_counter()
        rows = [each.row for batch in self._steps[step - 1].micro_batches for each in batch]
        return StepMetrics(
            step=step,
            steps=len(self._steps),
            rows=len(rows),
            tokens=drift.tokens,
            reward=fmean(row.reward for row in rows),
            length=fmean(row.actions for row in rows),
            loss=float(logs["loss"]),
            grad_norm=float(logs["grad_norm"]),
            entropy=float(logs["entropy"]),
            kl=drift.kl,
            ratio=drift.ratio,
            clip_fraction=drift.clip_fraction,
            ess=drift.ess,
            seconds=self._started - started,
        )
