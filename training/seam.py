"""Logged batches through TRL's GRPO trainer: its loss, its loop, and nothing of its generation.

TRL has no offline mode. Three methods are replaced, stable from TRL 1.10 to 1.16: where batches come from, what happens
to one before the loss (nothing), and a look at the log-probabilities on their way into the loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset  # type: ignore[import-untyped]
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PrinterCallback, TrainerCallback
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from router.settings import Mode, Objective, TrainingSection
from training.collate import Inputs, decoupled
from training.drift import DriftMeter

CISPO_CAP = 5.0  # ScaleRL, arXiv 2510.13786


class OfflineGRPOTrainer(GRPOTrainer):
    """`GRPOTrainer` over micro-batches made beforehand; `gradient_accumulation_steps` of them make one step.

    Processes take them in turn.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        args: GRPOConfig,
        batches: Sequence[Inputs],
        meter: DriftMeter,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        super().__init__(
            model=model,
            reward_funcs=_no_reward,
            args=args,
            train_dataset=Dataset.from_dict({"prompt": [""]}),  # asked for, never read
            processing_class=tokenizer,
            callbacks=list(callbacks),
        )
        self.remove_callback(PrinterCallback)
        own = batches[self.accelerator.process_index :: self.accelerator.num_processes]
        self._policy, self._batches, self._meter = model, list(own), meter
        self._inputs: Inputs = {}

    def get_train_dataloader(self) -> DataLoader[Inputs]:
        """The micro-batches as they are, in their order."""
        return DataLoader(self._batches, batch_size=None)  # type: ignore[arg-type]  # a list is a map-style data set

    @torch.no_grad()
    def anchor(self, decouple: bool) -> None:
        """Hold every batch against the policy as it is now: reference of the KL term, old policy if `decouple`."""
        self._policy.eval()
        for index, batch in enumerate(self._batches):
            inputs = {name: each.to(self._policy.device) for name, each in batch.items()}
            ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
            mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
            length = inputs["completion_ids"].size(1)
            start, _, _ = super()._get_per_token_logps_and_entropies(self._policy, ids, mask, length)
            start = start.float().cpu()
            held = decoupled(batch, start) if decouple else batch
            self._batches[index] = held | {"ref_per_token_logps": start}

    def _prepare_inputs(self, generation_batch: Inputs) -> Inputs:
        self._inputs = {name: each.to(self.accelerator.device) for name, each in generation_batch.items()}
        return self._inputs

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Any, Any]:
        logprobs, entropies, auxiliary = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        self._meter.add(logprobs, self._inputs)
        return logprobs, entropies, auxiliary


def _no_reward(**_: Any) -> list[float | None]:
    raise AssertionError("rewards come from the log; TRL must not generate")


def trl_arguments(config: TrainingSection, steps: int, micro_batches: int, scratch: Path) -> GRPOConfig:
    """TRL's arguments for `steps` optimizer steps of `micro_batches` each.

    Every loss is a mean over the tokens of the step (DAPO, arXiv 2503.14476), without division by a standard deviation.
    Bad completions that fell far are masked, and the KL term is corrected for being off-policy (DeepSeek-V3.2,
    arXiv 2512.02556).
    """
    return GRPOConfig(
        output_dir=str(scratch),
        max_steps=steps,
        gradient_accumulation_steps=micro_batches,
        steps_per_generation=micro_batches,
        per_device_train_batch_size=2,  # only validated, as num_generations is
        num_generations=2,
        learning_rate=config.learning_rate,
        lr_scheduler_type="constant",
        optim="adamw_torch",
        weight_decay=0.0,
        max_grad_norm=config.max_grad_norm,
        **_loss(config),
        off_policy_mask_threshold=config.off_policy_nats,
        beta=config.kl_beta,
        use_bias_correction_kl=True,
        entropy_coef=config.entropy_bonus,
        temperature=1.0,
        scale_rewards="none",
        disable_dropout=True,
        activation_checkpointing=config.activation_checkpointing,
        bf16=False,
        seed=config.seed,
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )


def _loss(config: TrainingSection) -> dict[str, Any]:
    """The objective's own arguments.

    `offline_clip` is a surrogate clipped on both sides, and at `dual_clip` where the advantage is negative (arXiv
    2505.07291). CISPO caps the ratio and lets every token keep its gradient (arXiv 2506.13585); without logged
    log-probabilities its ratio is 1, which at an advantage of 1 is the token-mean negative log-likelihood of `rft`.
    """
    if config.mode is Mode.RFT or config.objective is Objective.CISPO:
        return {"loss_type": "cispo", "epsilon_high": CISPO_CAP}
    return {
        "loss_type": "dapo",
        "epsilon": 1 - config.clip_low,
        "epsilon_high": config.clip_high - 1,
        "delta": config.dual_clip,
    }
