"""`train --mode distill`: verified answers, whoever gave them, as text for a smaller student with its own tokenizer."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset  # type: ignore[import-untyped]
from jinja2 import TemplateError
from transformers import PrinterCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from router.errors import TrainingError
from router.settings import TrainingSection
from training.dataset import Accepts, Counts
from training.export import Format, Line, exported
from training.model import BaseModel, load_policy, open_base_model, quiet_peft
from training.recipe import recipe

REPORT = "distill.json"


@dataclass(slots=True)
class Distilled:
    """What a run did; `out` is None when there was nothing to learn from."""

    counts: Counts
    out: Path | None = None
    losses: list[float] = field(default_factory=list)  # of each step: mean negative log-likelihood of a token, in nats

    def as_dict(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        return {"counts": self.counts.as_dict(), "out": str(self.out) if self.out else None, "losses": self.losses}


def distill(log_dir: Path, accepts: Accepts, student: Path, out: Path, config: TrainingSection) -> Distilled:
    """Fine-tune the model in `student` on the log's verified answers and write it, whole, to the new folder `out`.

    A LoRA adapter is trained and merged, so any engine loads the result. Nothing is registered: it is another base
    model. Raises `ConfigError` for a student that cannot be read, `TrainingError` when `out` exists, `RecordError`.
    """
    if out.exists():
        raise TrainingError(f"{out} exists: give a new folder with --out")
    base, done = open_base_model(student), Distilled(Counts())
    examples = list(_examples(log_dir, accepts, base, done.counts))
    if not examples:
        return done
    policy = load_policy(base, None, config)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch, quiet_peft():
        trainer = SFTTrainer(
            model=policy,
            args=_arguments(config, base, Path(scratch) / "trainer"),
            train_dataset=Dataset.from_list(examples),
            processing_class=base.tokenizer,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        done.losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        whole = Path(scratch) / "student"
        policy.merge_and_unload().save_pretrained(whole)
        base.tokenizer.save_pretrained(whole)
        (whole / REPORT).write_text(json.dumps(done.as_dict() | {"student": str(student), "config": recipe(config)}))
        whole.rename(out)
    done.out = out
    return done


def _examples(log_dir: Path, accepts: Accepts, base: BaseModel, counts: Counts) -> Iterator[Line]:
    """Prompts with their answers; those that the student's template or window does not take are counted."""
    for line in exported(log_dir, Format.SFT, accepts, counts):
        messages = line["messages"]
        fault: str | None = None
        try:
            ids = base.tokenizer.apply_chat_template(messages, return_dict=False)
        except (TemplateError, ValueError, TypeError, KeyError):
            fault = "template"
        else:
            fault = "too_long" if len(ids) > base.limits.max_length else None
        if fault is None:
            yield {"prompt": messages[:-1], "completion": messages[-1:]}
        else:
            counts.dropped_rows[fault] += 1
            counts.rows_kept -= 1


def _arguments(config: TrainingSection, base: BaseModel, scratch: Path) -> SFTConfig:
    return SFTConfig(
        output_dir=str(scratch),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=config.completions_per_step,
        learning_rate=config.learning_rate,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        max_grad_norm=config.max_grad_norm,
        max_length=base.limits.max_length,
        completion_only_loss=True,
        activation_checkpointing=config.activation_checkpointing,
        bf16=False,
        seed=config.seed,
        logging_steps=1,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
