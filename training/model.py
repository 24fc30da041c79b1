"""The base model with a LoRA adapter to train, and the adapter as vLLM loads it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, set_seed
from transformers.utils import logging as transformers_logging

from router.errors import ConfigError, TrainingError
from router.settings import TrainingSection
from training.rows import ModelLimits

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_NO_BOUND = 2**31
_OWN, _OLDER = "default", "older"  # names of adapters within the model; the first is peft's own


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A model's folder, its tokenizer, and what it can take."""

    folder: Path
    tokenizer: Any
    limits: ModelLimits


def open_base_model(folder: Path) -> BaseModel:
    """Read tokenizer and configuration, no weights. Raises `ConfigError` when `folder` holds no model."""
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        config = AutoConfig.from_pretrained(folder).get_text_config()
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"{folder} holds no model that transformers can read: {_line(error)}") from error
    if tokenizer.chat_template is None:
        raise ConfigError(f"the tokenizer in {folder} has no chat template: give the folder that the engine serves")
    longest = getattr(config, "max_position_embeddings", None) or _NO_BOUND
    return BaseModel(folder, tokenizer, ModelLimits(int(config.vocab_size), int(longest)))


def load_policy(base: BaseModel, parent: Path | None, config: TrainingSection) -> PeftModel:
    """The policy to train: the base model with the adapter in `parent`, or with a new one that changes nothing yet.

    float32 on a CPU; on a GPU the base weights are bfloat16 and the adapter float32. Raises `ConfigError` when the
    weights cannot be read or the adapter does not fit.
    """
    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    set_seed(config.seed)
    try:
        return _load(base, parent, config, dtype)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise ConfigError(f"cannot load {base.folder} with its adapter: {_line(error)}") from error


def _load(base: BaseModel, parent: Path | None, config: TrainingSection, dtype: torch.dtype) -> PeftModel:
    with quiet_peft():
        network = AutoModelForCausalLM.from_pretrained(base.folder, dtype=dtype, config=_without_dropout(base.folder))
        if parent is not None:
            return PeftModel.from_pretrained(network, parent, is_trainable=True)
        lora = LoraConfig(
            r=config.rank,
            lora_alpha=2 * config.rank,
            lora_dropout=0.0,
            target_modules=list(config.lora_targets),
            bias="none",
            task_type="CAUSAL_LM",
        )
        return get_peft_model(network, lora)


def _without_dropout(folder: Path) -> Any:
    """The model's configuration, every rate of dropout 0: the logged policy had none, and a ratio to it needs the same.

    Attention applies its rate by a function, which no search for dropout layers finds.
    """
    config = AutoConfig.from_pretrained(folder)
    for part in {id(each): each for each in (config, config.get_text_config())}.values():
        for name, value in part.to_dict().items():
            if name.endswith(("dropout", "pdrop")) and isinstance(value, float):
                setattr(part, name, 0.0)
    return config


@contextmanager
def acting_as(policy: PeftModel, adapter: Path | None) -> Iterator[None]:
    """Within the block `policy` is the base model with the adapter in this folder, or with none."""
    if adapter is None:
        with policy.disable_adapter():
            yield
        return
    with quiet_peft():
        policy.load_adapter(str(adapter), _OLDER)
    policy.set_adapter(_OLDER)
    try:
        yield
    finally:
        policy.set_adapter(_OWN)
        policy.delete_adapter(_OLDER)


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Without the warning that peft 0.21 reads a property which transformers 5.23 has renamed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*gradient_checkpointing", category=FutureWarning)
        yield


def adapter_weights(policy: PeftModel) -> dict[str, Tensor]:
    """The trained weights by their names, whole and on the CPU. All processes of a sharded run have to call it."""
    trained = {name: each.detach() for name, each in policy.named_parameters() if each.requires_grad}
    return {name: (each.full_tensor() if isinstance(each, DTensor) else each).cpu() for name, each in trained.items()}


def save_adapter(policy: PeftModel, weights: dict[str, Tensor], folder: Path, base_model: str) -> None:
    """Write the adapter to `folder`, its two files at the root; the same `weights` give the same bytes.

    Raises `TrainingError` when a weight is not finite, `OSError` when the disk refuses.
    """
    broken = [name for name, each in weights.items() if not each.isfinite().all()]
    if broken:
        raise TrainingError(f"training diverged: {broken[0]} is not finite: lower the learning rate")
    try:
        policy.save_pretrained(str(folder), selected_adapters=[_OWN], save_embedding_layers=False, state_dict=weights)
    except SafetensorError as error:
        raise OSError(f"cannot write the adapter: {error}") from error
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / ADAPTER_CONFIG
    known = json.loads(path.read_text())
    # peft keeps the targets in a set, and the folder of this machine as the model's name.
    known |= {"target_modules": sorted(known["target_modules"]), "base_model_name_or_path": base_model}
    path.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
