"""Micro-batches to the tensors that TRL's GRPO loss reads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from training.advantage import WeightedRow
from training.batches import Step

Inputs: TypeAlias = dict[str, Tensor]

TIS_CAP = 2.0


def collate(batch: Sequence[WeightedRow], step_actions: int) -> Inputs:
    """The inputs of one micro-batch of B rows; prompts [B, P] are padded left, completions [B, T] right.

    `tool_mask` [B, T] marks the tokens of the loss, `advantages` [B, T] repeats each row's, and `num_items_in_batch`
    counts the loss tokens of the whole optimizer step, so that the loss is a mean over the step's tokens. Rows without
    logged log-probabilities leave out `old_per_token_logps` [B, T]: their ratio is 1.
    """
    rows = [each.row for each in batch]
    prompt = max(len(row.prompt_ids) for row in rows)
    completion = max(len(row.completion_ids) for row in rows)
    inputs = {
        "prompt_ids": torch.zeros(len(rows), prompt, dtype=torch.long),
        "prompt_mask": torch.zeros(len(rows), prompt, dtype=torch.long),
        "completion_ids": torch.zeros(len(rows), completion, dtype=torch.long),
        "completion_mask": torch.zeros(len(rows), completion, dtype=torch.long),
        "tool_mask": torch.zeros(len(rows), completion, dtype=torch.long),
        "advantages": torch.tensor([each.advantage for each in batch]).unsqueeze(1).repeat(1, completion),
        "num_items_in_batch": torch.tensor(step_actions),
    }
    if all(row.logprobs for row in rows):
        inputs["old_per_token_logps"] = torch.zeros(len(rows), completion)
    for index, row in enumerate(rows):
        start, end = prompt - len(row.prompt_ids), len(row.completion_ids)
        inputs["prompt_ids"][index, start:] = torch.tensor(row.prompt_ids)
        inputs["prompt_mask"][index, start:] = 1
        inputs["completion_ids"][index, :end] = torch.tensor(row.completion_ids)
        inputs["completion_mask"][index, :end] = 1
        inputs["tool_mask"][index, :end] = torch.tensor(row.mask)
        if "old_per_token_logps" in inputs:
            inputs["old_per_token_logps"][index, :end] = torch.tensor(row.logprobs)
    return inputs


def decoupled(inputs: Inputs, start: Tensor) -> Inputs:
    """The same micro-batch with the ratio taken to the policy at the start of the run, not to the one that drew it.

    `start` [B, T] are the log-probabilities of that policy. What separates it from the logged one becomes a truncated
    importance weight (Yao et al. 2025), which folds into the advantage because it is never negative (AReaL,
    arXiv 2505.24298).
    """
    logged = inputs["old_per_token_logps"]
    weights = (start - logged).clamp(max=math.log(TIS_CAP)).exp()
    return inputs | {
        "old_per_token_logps": start,
        "sampling_per_token_logps": logged,
        "advantages": inputs["advantages"] * weights,
    }


def collate_steps(steps: Sequence[Step]) -> list[Inputs]:
    """The inputs of all micro-batches, step after step."""
    return [collate(batch, step.actions) for step in steps for batch in step.micro_batches]
