"""The trainer's objective written a second time, straight from its formula; every other must equal it.

L = -(1/N) sum m min(min(r, c) A, clip(r, lo, hi) A), r = pi_theta / mu, N the loss tokens of the optimizer step; the
other losses are the papers' (GRPO 2402.03300, Dr. GRPO 2503.20783, DAPO 2503.14476, CISPO 2506.13585, GSPO 2507.18071).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from training.advantage import WeightedRow


@dataclass(frozen=True, slots=True)
class Clip:
    """Bounds of the ratio; `dual` caps it where the advantage is negative."""

    low: float = 0.8
    high: float = 1.28
    dual: float = 4.0
    off_policy_nats: float | None = 0.5


def as_tensors(rows: Sequence[WeightedRow]) -> list[dict[str, Tensor]]:
    """The rows as the reference takes them, unpadded."""
    return [
        {
            "prompt": torch.tensor(each.row.prompt_ids), "completion": torch.tensor(each.row.completion_ids),
            "logged": torch.tensor(each.row.logprobs), "mask": torch.tensor(each.row.mask),
            "advantage": torch.tensor(each.advantage),
        }
        for each in rows
    ]  # fmt: skip


def policy_logprobs(model: Any, prompt: Tensor, completion: Tensor) -> Tensor:
    """log pi(token) [T] of one completion after one prompt, neither of them padded."""
    logits = model(input_ids=torch.cat([prompt, completion]).unsqueeze(0)).logits[0, len(prompt) - 1 : -1]
    return torch.log_softmax(logits.float(), -1)[torch.arange(len(completion)), completion]


def token_losses(logprobs: Tensor, logged: Tensor, advantage: Tensor, clip: Clip) -> Tensor:
    """Loss of each token of one completion, before any mean; `logged` are log mu [T]."""
    ratio = torch.exp(logprobs - logged)
    surrogate = torch.minimum(ratio.clamp(max=clip.dual) * advantage, ratio.clamp(clip.low, clip.high) * advantage)
    return -surrogate


def reference_loss(model: Any, rows: list[dict[str, Tensor]], kind: str, clip: Clip, max_length: int = 1) -> Tensor:
    """The loss of one optimizer step over unpadded rows with `prompt`, `completion`, `logged`, `advantage`, `mask`."""
    total = torch.zeros(())
    tokens = sum(int(row["mask"].sum()) for row in rows)
    for row in rows:
        logprobs, mask = policy_logprobs(model, row["prompt"], row["completion"]), row["mask"].float()
        gap = logprobs - row["logged"]
        if kind == "cispo":
            losses = -torch.exp(gap).clamp(max=clip.high).detach() * row["advantage"] * logprobs
        elif kind == "gspo":
            shared = (gap * mask).sum() / mask.sum()
            losses = token_losses(shared, torch.zeros(()), row["advantage"], clip) * torch.ones_like(mask)
        else:
            losses = token_losses(logprobs, row["logged"], row["advantage"], clip)
        if clip.off_policy_nats is not None:
            fell = -(gap.detach() * mask).sum() / mask.sum() > clip.off_policy_nats
            losses = torch.where((row["advantage"] < 0) & fell, torch.zeros(()), losses)
        per_row = (losses * mask).sum()
        share = {"dapo": tokens, "cispo": tokens, "dr_grpo": len(rows) * max_length}
        total = total + per_row / share.get(kind, len(rows) * mask.sum())
    return total
