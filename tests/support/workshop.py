"""A tiny model, its log and its state directory: all that a training run needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from router.records import GroupRecord
from router.registry import PolicyRegistry
from router.settings import TrainingSection
from tests.support.tiny_policy import save_tiny, tiny_model, tiny_tokenizer
from tests.support.training_log import PLAIN, trained_group, trained_sample, write_log
from training.identity import logprobs_of, template_fingerprint
from training.model import quiet_peft
from training.place import Place
from training.report import Report
from training.rows import Row
from training.run import train

PROMPT, GOOD, BAD = (5, 6, 7), (11, 12, 0), (21, 22, 23, 0)
NAME = "tiny"


@dataclass(frozen=True)
class Workshop:
    """A tiny model, its log and its state directory."""

    place: Place

    def log(self, policy: Any, groups: int, name: str = NAME, start: int = 0) -> None:
        """Write a segment of audited groups, each of one good and one bad completion, logged by `policy`."""
        write_log(self.place.log_dir, [mixed_group(policy, start + number, name) for number in range(groups)])

    def train(self, **config: Any) -> Report:
        known = {"learning_rate": 2e-3, "completions_per_step": 4, "rank": 4, "stop_kl": 100.0, "stop_clip_fraction": 1}
        return train(self.place, TrainingSection(**(known | config)), lambda _: None)

    @property
    def registry(self) -> PolicyRegistry:
        return PolicyRegistry(self.place.state_dir)

    def policy(self, name: str | None) -> Any:
        assert name is not None
        with quiet_peft():
            return PeftModel.from_pretrained(tiny_model(), str(self.registry.get(name).path)).eval()


@torch.no_grad()
def logprobs(policy: Any, completion: Sequence[int]) -> list[float]:
    length = len(completion)
    row = Row(0, PROMPT, tuple(completion), (0.0,) * length, (True,) * length, 0.0, False)
    found: list[float] = logprobs_of(policy, row).tolist()
    return found


def mixed_group(policy: Any, number: int, name: str = NAME, base_model: str = NAME) -> GroupRecord:
    samples = [
        trained_sample(
            index, reward, policy=name, completion_token_ids=ids, behavior_logprobs=tuple(logprobs(policy, ids)),
            sampling=PLAIN,
        )
        for index, (ids, reward) in enumerate([(GOOD, 1.0), (BAD, 0.0)])
    ]  # fmt: skip
    return trained_group(
        f"g{number:03}", created_at=1.7e9 + number, base_model=base_model, policy=name, samples=tuple(samples),
        prompt_token_ids=PROMPT, template_fingerprint=template_fingerprint(tiny_tokenizer()),
    )  # fmt: skip


def workshop(folder: Path) -> Workshop:
    """An empty one, the model saved in `folder`."""
    torch.set_num_threads(1)
    return Workshop(Place(folder / "log", folder / "state", save_tiny(folder / "model")))
