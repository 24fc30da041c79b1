"""One arm of the proof on a state directory of its own, stage by stage; a stage that is done is passed by."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from gateway.bench.tasks.catalogue import write_rows
from gateway.local.children import Children, free_port
from gateway.local.stack import Wanted, start_stack
from gateway.policies import CHAMPION
from router.errors import ThinkTwiceError
from router.fs import append_durably
from router.log.groups import claim_worker
from router.log.segments import frame
from router.log.writer import SegmentWriter
from router.policy_history import Action
from router.record_codec import encode
from router.registry import Policy, PolicyRegistry
from router.settings import load_settings
from tests.bench.proof.asking import judge, ordinary, send_traffic
from tests.bench.proof.plan import ArmPart, Plan

BASE = "none"  # the arm that does not train: the same policy, asked once more
BEFORE, AFTER = "before.jsonl", "after.jsonl"


@dataclass(frozen=True, slots=True)
class Arm:
    """Where an arm works. `part` is None for the one that does not train."""

    plan: Plan
    folder: Path
    part: ArmPart | None

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def log_dir(self) -> Path:
        return self.folder / "log"

    @property
    def registry(self) -> PolicyRegistry:
        return PolicyRegistry(self.folder)

    def run(self) -> None:
        """Every stage that is not done. Raises `ThinkTwiceError` when one breaks; the next run goes on from there."""
        self._prepare()
        settings = load_settings(self._config)
        with Children(self.folder / "run") as children:
            wanted = Wanted("embedded", None, free_port(), self._config)
            with self.timed("start"):
                url = start_stack(children, settings, wanted, lambda line: print(f"  {line}", flush=True))
            for cycle in range(self.plan.cycles if self.part else 1):
                with self.timed(f"traffic {cycle + 1}"):
                    send_traffic(url, self._champion(), self.log_dir, self.plan, cycle)
                if self.part:
                    self._train(cycle)
                    self._promote(cycle, url)
            if self.part is None:
                with self.timed("judge before"):
                    judge(url, CHAMPION, self.plan, "before", self.folder / BEFORE)
            with self.timed("judge after"):
                judge(url, self._champion(), self.plan, "after", self.folder / AFTER)

    def policies(self) -> list[Policy]:
        """The policies that it made, one a cycle."""
        return sorted(self.registry.policies(), key=lambda each: int(each.name.split("-")[1]))

    def steps(self) -> list[dict[str, Any]]:
        """The optimizer steps of all cycles, in order."""
        files = sorted((self.folder / "training").glob("*/metrics.jsonl"))
        runs = {policy.manifest["run"]: number for number, policy in enumerate(self.policies(), start=1)}
        return [
            {"cycle": runs[file.parent.name]} | json.loads(line)
            for file in files
            if file.parent.name in runs
            for line in file.read_text().splitlines()
        ]

    def seconds(self) -> dict[str, float]:
        """Wall seconds of each stage, over all runs."""
        path, found = self.folder / "times.jsonl", dict[str, float]()
        for line in path.read_text().splitlines() if path.exists() else ():
            stage, seconds = json.loads(line)
            found[stage] = round(found.get(stage, 0.0) + seconds, 1)
        return found

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Say what begins, and keep how long it took."""
        print(f"{self.name}: {stage}", flush=True)
        began = time.monotonic()
        try:
            yield
        finally:
            append_durably(self.folder / "times.jsonl", f"{json.dumps([stage, time.monotonic() - began])}\n".encode())

    def _champion(self) -> str:
        """Its name, which the gateway knows at once; the alias follows a promotion within a second or two."""
        return self.registry.champion().policy or CHAMPION

    @property
    def _config(self) -> Path:
        return self.folder / "thinktwice.toml"

    def _prepare(self) -> None:
        """Its configuration, the model that all arms share, and the first cycle's groups, which all arms share too."""
        self.folder.mkdir(parents=True, exist_ok=True)
        models = self.folder.parent / "models"
        models.mkdir(exist_ok=True)
        if not (self.folder / "models").exists():
            (self.folder / "models").symlink_to(models.resolve())
        base = self.folder.parent / BASE / "log"
        if self.part and not self.log_dir.exists():
            partial = self.folder / "log.partial"
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(base, partial)
            partial.rename(self.log_dir)
        questions = self.folder / "heldout.jsonl"
        write_rows(self.plan.heldout_questions(), questions)
        training = {**self.plan.training, "eval_data": str(questions.resolve()), "seed": self.plan.seed}
        if self.part:
            training |= {"mode": self.part.mode, "epochs": self.part.epochs}
        sections: dict[str, dict[str, Any]] = {
            "state": {"dir": str(self.folder.resolve())},
            "log": {"dir": str(self.log_dir.resolve()), "segment_s": 2},
            "router": {"audit_share": 0},
            "heldout": {"share": 0},
            "training": training,
        }
        lines = (
            [f"[{section}]", *(f"{name} = {json.dumps(value)}" for name, value in keys.items())]
            for section, keys in sections.items()
        )
        self._config.write_text("\n".join(line for part in lines for line in part) + "\n")

    def _train(self, cycle: int) -> None:
        """One `thinktwice train` on what the champion answered, unless this cycle has its policy."""
        if len(self.policies()) > cycle:
            return
        log_dir = self._shuffled(cycle) if self.part and self.part.shuffled else self.log_dir
        with self.timed(f"train {cycle + 1}"):
            self._command("train", "--log-dir", str(log_dir))
        if len(self.policies()) <= cycle:
            raise ThinkTwiceError(f"cycle {cycle + 1} of {self.name} had nothing to train on: the plan is too small")

    def _promote(self, cycle: int, url: str) -> None:
        policy = self.policies()[cycle].name
        flips = (entry.policy for entry in self.registry.history() if entry.action is Action.PROMOTE)
        if policy not in flips:
            self._command("promote", policy, "--url", url, "--reason", f"cycle {cycle + 1} of the plan")

    def _command(self, *words: str) -> None:
        command = [sys.executable, "-m", "router", *words, "--config", str(self._config)]
        if code := subprocess.run(command, check=False).returncode:
            raise ThinkTwiceError(f"thinktwice {words[0]} ended with exit code {code}: run this again")

    def _shuffled(self, cycle: int) -> Path:
        """A log of this cycle's groups whose rewards were dealt out anew over all its completions."""
        path, partial = self.folder / f"log-{cycle}", self.folder / f"log-{cycle}.partial"
        if path.exists():
            return path
        shutil.rmtree(partial, ignore_errors=True)
        champion = self.registry.champion().policy
        groups = [each for each in ordinary(self.log_dir) if each.policy == (champion or each.base_model)]
        rewards = [sample.reward for group in groups for sample in group.samples]
        random.Random(f"{self.plan.seed}/{cycle}").shuffle(rewards)
        dealt = iter(rewards)
        shuffled = [
            replace(group, samples=tuple(replace(sample, reward=next(dealt)) for sample in group.samples))
            for group in groups
        ]
        worker = claim_worker(partial)
        try:
            writer = SegmentWriter(worker.path, worker.next_seq())
            writer.append([frame(encode(group)) for group in shuffled])
            writer.seal()
        finally:
            worker.release()
        partial.rename(path)
        return path
