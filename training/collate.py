"""Micro-batches to the tensors that TRL's GRPO loss reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from training.advantage import WeightedRow
from training.batches import Step

Inputs: TypeAlias = dict[str, Tensor]


def collate(batch: Sequence[WeightedRow], step_actions: int) -> Inputs:
    """The inputs of one micro-batch of B rows; prompts [B, P] are padded left, completions [B, T] right.

    `tool_mask` [B, T] marks the tokens of the loss, `advantages` [B, T] repeats each row's, and `num_items_in_batch`
    counts the loss tokens of the whole optimizer step, so that the loss is a mean over the step's tokens.
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
        "old_per_token_logps": torch.zeros(len(rows), completion),
        "advantages": torch.tensor([each.advantage for each in batch]).unsqueeze(1).repeat(1, completion),
        "num_items_in_batch": torch.tensor(step_actions),
    }
    for index, row in enumerate(rows):
        start, end = prompt - len(row.prompt_ids), len(row.completion_ids)
        inputs["prompt_ids"][index, start:] = torch.tensor(row.prompt_ids)
        inputs["prompt_mask"][index, start:] = 1
        inputs["completion_ids"][index, :end] = torch.tensor(row.completion_ids)
        inputs["completion_mask"][index, :end] = 1
        inputs["tool_mask"][index, :end] = torch.tensor(row.mask)
        inputs["old_per_token_logps"][index, :end] = torch.tensor(row.logprobs)
    return inputs


def collate_steps(steps: Sequence[Step]) -> list[Inputs]:
    """The inputs of all micro-batches, step after step."""
    return [collate(batch, step.actions) for step in steps for batch in step.micro_batches]
