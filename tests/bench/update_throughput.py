"""Our update step against that of TRL's own `GRPOTrainer`: the same model, rows and loss, paired and interleaved.

    python -m tests.bench.update_throughput --model MODEL_DIR --pairs 5

Each side is a process of its own that takes one optimizer step on the same completions whenever it is told to, and they
take turns. TRL gets the logged completions by its `rollout_func` and their rewards by a reward function; what it spends
there is not counted. Ours gets micro-batches of as many padded tokens as TRL's. The first step of each is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from router.peak_memory import peak_rss_reader

os.environ["HF_HUB_OFFLINE"] = os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

GROUPS, SIZE, ROWS_AT_ONCE = 2, 4, 4
PROMPT_TOKENS, SHORTEST, LONGEST = 48, 24, 96


def rows_of(vocabulary: int, seed: int = 0) -> list[Any]:
    """Completions of uneven length with made-up log-probabilities; half of each group is good."""
    from training.rows import Row  # noqa: PLC0415  # the parent process does without torch

    rng, rows = random.Random(seed), []
    for _ in range(GROUPS):
        prompt = tuple(rng.randrange(vocabulary) for _ in range(PROMPT_TOKENS))
        for index in range(SIZE):
            length = rng.randint(SHORTEST, LONGEST)
            ids = tuple(rng.randrange(vocabulary) for _ in range(length))
            rows.append(Row(index, prompt, ids, (-1.0,) * length, (True,) * length, float(index % 2), False))
    return rows


def callbacks() -> list[Any]:
    """Waits for a line before every step, and answers with its seconds."""
    from transformers import TrainerCallback  # noqa: PLC0415

    class Turns(TrainerCallback):
        peak_bytes = staticmethod(peak_rss_reader())

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if not sys.stdin.readline():
                raise SystemExit(0)
            self.wall, self.cpu = time.perf_counter(), time.process_time()

        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            wall, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
            print(
                json.dumps({"wall_s": wall, "cpu_s": cpu, "peak_bytes": self.peak_bytes()}), file=sys.stderr, flush=True
            )

    return [Turns()]


def train_ours(model: Path, steps: int, scratch: Path) -> None:
    from router.settings import TrainingSection  # noqa: PLC0415
    from training.advantage import weigh  # noqa: PLC0415
    from training.batches import plan_steps  # noqa: PLC0415
    from training.collate import collate_steps  # noqa: PLC0415
    from training.drift import DriftMeter  # noqa: PLC0415
    from training.groups import Group  # noqa: PLC0415
    from training.model import load_policy, open_base_model, quiet_peft  # noqa: PLC0415
    from training.seam import OfflineGRPOTrainer, trl_arguments  # noqa: PLC0415

    base = open_base_model(model)
    rows = rows_of(base.limits.vocab_size)
    padded = ROWS_AT_ONCE * (PROMPT_TOKENS + max(len(row.completion_ids) for row in rows))
    config = TrainingSection(completions_per_step=len(rows), micro_batch_tokens=padded, off_policy_nats=1e9)
    groups = [Group(str(n), 0.0, "", True, tuple(rows[n * SIZE : (n + 1) * SIZE])) for n in range(GROUPS)]
    (step,) = plan_steps(weigh(groups, [[row.reward for row in group.rows] for group in groups]), config)
    args = trl_arguments(config, steps, len(step.micro_batches), scratch)
    policy = load_policy(base, None, config)
    with quiet_peft():
        batches = collate_steps([step] * steps)
        OfflineGRPOTrainer(policy, base.tokenizer, args, batches, DriftMeter(0.8, 1.28), callbacks()).train()


def train_trl(model: Path, steps: int, scratch: Path) -> None:
    from datasets import Dataset  # type: ignore[import-untyped]  # noqa: PLC0415
    from trl.trainer.grpo_config import GRPOConfig  # noqa: PLC0415
    from trl.trainer.grpo_trainer import GRPOTrainer  # noqa: PLC0415

    from router.settings import TrainingSection  # noqa: PLC0415
    from training.model import load_policy, open_base_model, quiet_peft  # noqa: PLC0415

    base, turns = open_base_model(model), callbacks()
    rows = rows_of(base.limits.vocab_size)

    class Timed(GRPOTrainer):
        def _generate_and_score_completions(self, inputs: Any) -> Any:
            wall, cpu = time.perf_counter(), time.process_time()
            scored = super()._generate_and_score_completions(inputs)
            turns[0].wall += time.perf_counter() - wall
            turns[0].cpu += time.process_time() - cpu
            return scored

    def rollout(prompts: list[str], trainer: Any) -> dict[str, Any]:
        return {
            "prompt_ids": [list(row.prompt_ids) for row in rows],
            "completion_ids": [list(row.completion_ids) for row in rows],
            "logprobs": [list(row.logprobs) for row in rows],
        }

    micro_batches = len(rows) // ROWS_AT_ONCE
    args = GRPOConfig(
        output_dir=str(scratch), max_steps=steps, per_device_train_batch_size=ROWS_AT_ONCE,
        gradient_accumulation_steps=micro_batches, steps_per_generation=micro_batches, num_generations=SIZE,
        max_completion_length=LONGEST, learning_rate=5e-5, lr_scheduler_type="constant", loss_type="dapo",
        epsilon=0.2, epsilon_high=0.28, delta=4.0, beta=0.0, scale_rewards="none", disable_dropout=True,
        activation_checkpointing=False, gradient_checkpointing=False, bf16=False, report_to="none", save_strategy="no",
        logging_steps=1, disable_tqdm=True, dataloader_pin_memory=False,
    )  # fmt: skip
    with quiet_peft():
        Timed(
            model=load_policy(base, None, TrainingSection()),
            reward_funcs=lambda **_: [row.reward for row in rows],
            args=args,
            train_dataset=Dataset.from_dict({"prompt": [str(n) for n in range(GROUPS)]}),
            processing_class=base.tokenizer,
            callbacks=turns,
            rollout_func=rollout,
        ).train()


class Side:
    """One of the two, in a process of its own."""

    def __init__(self, name: str, model: Path, steps: int) -> None:
        command = [sys.executable, "-m", "tests.bench.update_throughput", "--model", str(model), "--side", name]
        self._process = subprocess.Popen(
            [*command, "--pairs", str(steps)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True, env=os.environ | {"TRL_EXPERIMENTAL_SILENCE": "1"},
        )  # fmt: skip

    def step(self) -> dict[str, float]:
        """Take one step and return what it cost."""
        assert self._process.stdin is not None and self._process.stderr is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        told = []
        for line in self._process.stderr:
            if line.startswith('{"wall_s"'):
                found: dict[str, float] = json.loads(line)
                return found
            told.append(line)
        raise SystemExit("".join(told))

    def close(self) -> None:
        self._process.communicate()


def compare(model: Path, pairs: int) -> dict[str, Any]:
    """Take turns, the first one alternating; the ratios are TRL's cost over ours, so that above 1 ours is faster."""
    sides = {name: Side(name, model, pairs + 1) for name in ("ours", "trl")}
    costs: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for turn in range(pairs + 1):
        for name in sorted(sides, reverse=bool(turn % 2)):
            costs[name].append(sides[name].step())
    for side in sides.values():
        side.close()
    counted = {name: each[1:] for name, each in costs.items()}

    def ratios(of: str) -> dict[str, float]:
        found = [trl[of] / ours[of] for ours, trl in zip(counted["ours"], counted["trl"], strict=True)]
        return {"median": statistics.median(found), "least": min(found), "most": max(found)}

    peak = {name: max(each["peak_bytes"] for each in all_) for name, all_ in costs.items()}
    return {
        "pairs": pairs,
        "throughput_ratio_cpu": ratios("cpu_s"),
        "throughput_ratio_wall": ratios("wall_s"),
        "cpu_s": {name: statistics.median(each["cpu_s"] for each in all_) for name, all_ in counted.items()},
        "peak_bytes": peak,
        "peak_ratio": peak["ours"] / peak["trl"],
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--side", choices=("ours", "trl"), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.side is None:
        print(json.dumps(compare(args.model, args.pairs), indent=2))
        return
    with tempfile.TemporaryDirectory() as scratch:
        (train_ours if args.side == "ours" else train_trl)(args.model, args.pairs, Path(scratch))


if __name__ == "__main__":
    main()
