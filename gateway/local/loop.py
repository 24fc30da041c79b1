"""The whole loop on one machine: traffic, training, gate, verdict, and what serves after it. Nothing is staged."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from gateway.bench.drive import Job, Trial
from gateway.bench.session import measure
from gateway.bench.tasks.catalogue import generate, task_named, write_rows
from router.enums import Purpose
from router.errors import ConfigError, ThinkTwiceError
from router.log.groups import read_groups
from router.questions import Question
from router.records import GroupRecord
from router.registry import PolicyRegistry
from router.settings import Settings
from router.stats import Rate, wilson

TASK, SHOTS = "extract-order", 4  # of those measured, where most groups can teach: docs/results/tasks-2026-11-22.md
TRAFFIC, HELDOUT = 24, 60  # questions; the guards of the gate need 52 pairs
SAMPLES = 4
_CONCURRENCY = 8
_SEAL_TIMEOUT_S = 60.0
# The policy's own distribution, so that every sample can train.
_SAMPLING: Mapping[str, float] = {"temperature": 1.0, "top_p": 1.0, "top_k": -1, "min_p": 0.0}


class LoopDemo:
    """Drives one gateway and one training cycle."""

    def __init__(self, url: str, settings: Settings, config: Path | None, console: Console) -> None:
        """Raises `ConfigError` when the configuration has no file for the held-out questions."""
        if settings.training.eval_data is None:
            raise ConfigError("the loop is judged on held-out questions: set [training] eval_data")
        self._url, self._config, self._console = url, config, console
        self._heldout, self._log_dir = settings.training.eval_data, settings.log.dir
        self._registry = PolicyRegistry(settings.state.dir)

    def run(self) -> None:
        """Every step in turn. Raises `ThinkTwiceError` when one of them breaks; a verdict of any kind is none."""
        seen = self._groups()
        traffic = self._questions(len(seen))
        self._send(traffic)
        self._wait_until_sealed(len(seen) + len(traffic))
        self._show_groups(self._groups()[len(seen) :])
        before = self._registry.champion()
        self._train()
        after = self._registry.champion()
        self._title("What serves now")
        flipped = "a new champion" if after.epoch > before.epoch else "as before: nothing was promoted"
        self._console.print(f"   {after.policy or 'the base model'}, epoch {after.epoch} ({flipped})")

    def _questions(self, used: int) -> tuple[Question, ...]:
        """Traffic that no run before this one sent, and held-out questions that none sends."""
        rows = generate(task_named(TASK), HELDOUT + used + TRAFFIC, SHOTS, seed=0)
        write_rows(rows[:HELDOUT], self._heldout)
        return rows[HELDOUT + used :]

    def _send(self, rows: tuple[Question, ...]) -> None:
        self._title(f"Traffic: {len(rows)} prompts of the task {TASK}, {SAMPLES} samples each, verified and logged")
        bounds = {"min": SAMPLES, "max": SAMPLES}
        sampling = {**_SAMPLING, "max_tokens": task_named(TASK).max_tokens}
        jobs = [Job(row, "traffic", bounds, sampling, headers={}) for row in rows]
        began = time.monotonic()
        trials, interrupted = measure(self._url, "champion", jobs, _CONCURRENCY)
        if interrupted:
            raise KeyboardInterrupt
        self._show_traffic(trials, time.monotonic() - began)

    def _show_traffic(self, trials: list[Trial], seconds: float) -> None:
        errors = [trial.error for trial in trials if trial.error]
        if errors:
            raise ThinkTwiceError(f"{len(errors)} of {len(trials)} prompts were not answered, the first: {errors[0]}")
        solved = wilson(sum(trial.solved for trial in trials), len(trials))
        tokens = sum(trial.reply.tokens for trial in trials if trial.reply)
        self._console.print(f"   verified {_rate(solved)}; {tokens} tokens in {seconds:.0f} s")

    def _wait_until_sealed(self, groups: int) -> None:
        """The trainer reads sealed segments only."""
        deadline = time.monotonic() + _SEAL_TIMEOUT_S
        while len(self._groups()) < groups:
            if time.monotonic() > deadline:
                raise ThinkTwiceError(f"{self._log_dir} was not sealed: set [log] segment_s to a few seconds")
            time.sleep(0.5)

    def _groups(self) -> list[GroupRecord]:
        if not self._log_dir.is_dir():
            return []
        return [group for _, group in read_groups(self._log_dir) if group.purpose is Purpose.PROD]

    def _show_groups(self, groups: list[GroupRecord]) -> None:
        right = [sum(sample.reward == 1.0 for sample in group.samples) for group in groups]
        samples = sum(len(group.samples) for group in groups)
        spread = sum(0 < passed < len(group.samples) for passed, group in zip(right, groups, strict=True))
        self._console.print(f"   samples right {_rate(wilson(sum(right), samples))}")
        self._console.print(f"   groups with right and wrong samples, which can teach: {spread} of {len(groups)}")

    def _train(self) -> None:
        """The scheduled command itself, as a crontab would run it."""
        command = ["train", "--if-due"]
        command += ["--config", str(self._config)] if self._config else []
        self._title(f"thinktwice {' '.join(command)}")
        # One thread: the engine that answers the gate's questions shares the cores.
        env = {**os.environ, "OMP_NUM_THREADS": "1", "THINKTWICE_TRAINING__GATEWAY_URL": self._url}
        began = time.monotonic()
        done = subprocess.run([sys.executable, "-m", "router", *command], env=env, check=False)
        if done.returncode:
            raise ThinkTwiceError(f"the cycle ended with exit code {done.returncode}; serving is as it was")
        self._console.print(f"   in {time.monotonic() - began:.0f} s", style="dim")

    def _title(self, text: str) -> None:
        self._console.print(f"\n[bold]{text}[/]")


def _rate(rate: Rate) -> str:
    if rate.value is None or rate.low is None or rate.high is None:
        return "unknown"
    return f"{rate.successes} of {rate.n} ({rate.value:.1%}, 95 % interval {rate.low:.1%} to {rate.high:.1%})"
