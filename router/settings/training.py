"""The section of the trainer."""

from __future__ import annotations

from enum import StrEnum
from itertools import pairwise
from pathlib import Path

from pydantic import Field, field_validator

from router.settings.section import Section


class Mode(StrEnum):
    """What a policy learns from."""

    GRPO = "grpo"  # every scored completion, by its advantage
    RFT = "rft"  # verified completions alone, as examples


class Objective(StrEnum):
    """The loss of mode `grpo`."""

    OFFLINE_CLIP = "offline_clip"
    CISPO = "cispo"


LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class TrainingSection(Section):
    """How a policy is trained. Ratios are of the trained policy's probability of a token to the logged one."""

    model: Path | None = Field(None, description="Folder of the base model; by default the only one in `models`.")
    mode: Mode = Field(Mode.GRPO, description="Learn from all scored completions, or from the verified ones alone.")
    objective: Objective = Field(
        Objective.OFFLINE_CLIP,
        description="Loss of mode `grpo`; `cispo` takes rows of the two champions before too.",
    )
    learning_rate: float = Field(5e-5, gt=0, le=1e-2, description="Constant learning rate of AdamW.")
    rank: int = Field(16, ge=1, le=512, description="Rank of the LoRA adapter; vLLM's `--max-lora-rank` bounds it.")
    lora_targets: tuple[str, ...] = Field(LORA_TARGETS, min_length=1, description="Linear layers that are adapted.")
    epochs: int = Field(1, ge=1, le=2, description="Passes over the data; every pass moves further from the log.")
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of the adapter's start and of the order of the groups.")
    max_groups: int = Field(4000, ge=1, description="Train on at most this many groups, the newest; bounds the memory.")
    curriculum: bool = Field(
        False, description="Of more than `max_groups` groups take 15 % hard and 15 % easy ones, as measured."
    )
    completions_per_step: int = Field(64, ge=1, description="Completions of one optimizer step.")
    micro_batch_tokens: int = Field(512, ge=1, description="Padded tokens of one forward pass; bounds the memory.")
    activation_checkpointing: bool = Field(False, description="Recompute activations: slower, far less memory.")
    clip_low: float = Field(0.8, gt=0, lt=1, description="Ratio below which a bad token gets no further gradient.")
    clip_high: float = Field(1.28, gt=1, description="Ratio above which a good token gets no further gradient.")
    dual_clip: float = Field(4.0, gt=1, description="Ratio above which a bad token gets no further gradient.")
    off_policy_nats: float = Field(
        0.5, gt=0, description="Bad completions whose mean log-probability fell by more than this are left out."
    )
    kl_beta: float = Field(0.0, ge=0, description="Weight of the KL from the policy that the run starts from.")
    entropy_bonus: float = Field(0.0, ge=0, description="Weight of the mean entropy of a token, in nats.")
    length_weight: float = Field(0.0, ge=0, description="Weight of the length penalty in the reward that trains.")
    length_limit: int = Field(1024, ge=2, description="Completion tokens from which the length penalty is whole.")
    length_margin: int = Field(256, ge=1, description="Tokens before `length_limit` over which it grows from 0.")
    format_weight: float = Field(0.0, ge=0, description="Weight of a passed `format` check in the reward that trains.")
    process_weight: float = Field(
        0.0, ge=0, description="Weight of the `arithmetic_steps` score in the reward that trains."
    )
    max_grad_norm: float = Field(1.0, gt=0, description="Norm to which the gradient is clipped.")
    stop_kl: float = Field(0.05, gt=0, description="Mean KL from the log, in nats a token, that ends the run.")
    stop_clip_fraction: float = Field(0.3, gt=0, le=1, description="Share of clipped tokens that ends the run.")
    identity_kl: float = Field(
        0.01, gt=0, description="Mean KL, in nats a token, from which logged rows are not of the policy they name."
    )
    canary_shares: tuple[float, ...] = Field(
        (), description="Shares that a better policy serves in turn as a canary before it is promoted; none: at once."
    )
    canary_answers: int = Field(200, ge=1, description="Judged answers of the canary that each share needs.")
    due_groups: int = Field(200, ge=1, description="New trainable groups from which `train --if-due` trains.")
    eval_data: Path | None = Field(None, description="JSON Lines of held-out questions, which `--if-due` needs.")
    score_hours: float = Field(24, gt=0, description="Hours after which `evaluate --if-due` scores the champion again.")
    eval_max_tokens: int | None = Field(None, ge=1, description="Longest completion of an evaluation, in tokens.")
    gateway_url: str = Field("http://127.0.0.1:8000", description="Gateway that `--if-due` evaluates through.")
    top_up_samples: int = Field(4, ge=2, le=5, description="Samples of a group that `train --top-up` draws.")
    top_up_tokens: int = Field(
        200_000, ge=1, description="Tokens, of prompts and completions, that one `train --top-up` may take."
    )
    usd_per_hour: float | None = Field(None, ge=0, description="Price of the machine that trains, for `train plan`.")
    alpha: float = Field(0.05, gt=0, lt=0.5, description="One-sided level of the test that promotes.")

    @field_validator("canary_shares")
    @classmethod
    def _growing(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        if any(later <= earlier for earlier, later in pairwise((0.0, *shares, 1.0))):
            raise ValueError("shares lie between 0 and 1, each above the one before it, as in [0.05, 0.25]")
        return shares
