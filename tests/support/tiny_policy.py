"""A random Llama of about 20,000 parameters with a byte-level tokenizer, and rows that it has logged."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from training.advantage import WeightedRow, weigh
from training.collate import Inputs
from training.groups import Group
from training.identity import logprobs_of
from training.rows import Row
from training.seam import OfflineGRPOTrainer

TEMPLATE = (
    "{% for m in messages %}{{ '<|start|>' + m['role'] + ':' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant:{% endif %}"
)


def tiny_tokenizer() -> Any:
    """One token a byte, after two special ones."""
    specials = ["<|end|>", "<|start|>"]
    vocabulary = {token: i for i, token in enumerate([*specials, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.add_special_tokens(specials)
    kind: Any = PreTrainedTokenizerFast
    return kind(tokenizer_object=backend, eos_token="<|end|>", pad_token="<|end|>", chat_template=TEMPLATE)


def tiny_model(seed: int = 0) -> Any:
    """The model, in float32, its logits spread like a trained one's."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=258, hidden_size=24, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, initializer_range=0.2, bos_token_id=1, eos_token_id=0,
        pad_token_id=0, tie_word_embeddings=True,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.train(False)
    return model


def save_tiny(folder: Path, seed: int = 0) -> Path:
    """Save model and tokenizer as the engine would serve them."""
    tiny_model(seed).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def logged_row(model: Any, rng: random.Random, reward: float = 1.0, **fields: Any) -> Row:
    """A row of random ids with the model's own log-probabilities, unless `fields` say otherwise."""
    known: dict[str, Any] = {
        "index": 0,
        "prompt_ids": tuple(rng.randrange(2, 258) for _ in range(rng.randint(2, 6))),
        "completion_ids": tuple(rng.randrange(2, 258) for _ in range(rng.randint(2, 7))),
        "truncated": False,
        "reward": reward,
    } | fields
    length = len(known["completion_ids"])
    known.setdefault("mask", (True,) * length)
    row = Row(**({"logprobs": (0.0,) * length} | known))
    if "logprobs" in known:
        return row
    with torch.no_grad():
        return Row(**(known | {"logprobs": tuple(logprobs_of(model, row).tolist())}))


def weighed(groups: Sequence[Group]) -> list[list[WeightedRow]]:
    """Rows with the advantages of their outcomes alone."""
    return weigh(groups, [[row.reward for row in group.rows] for group in groups])


def shifted(each: WeightedRow, gaps: list[float]) -> WeightedRow:
    """The row as if it had been logged by a policy whose log-probabilities differ by `gaps`, repeated as need be."""
    row = each.row
    logprobs = tuple(value - gaps[i % len(gaps)] for i, value in enumerate(row.logprobs))
    values = {name: getattr(row, name) for name in row.__slots__}
    return WeightedRow(Row(**(values | {"logprobs": logprobs})), each.advantage)


def loss_of(trainer: OfflineGRPOTrainer, inputs: Inputs) -> torch.Tensor:
    """What TRL's loss makes of one micro-batch, the way the loop calls it."""
    loss: torch.Tensor = trainer.compute_loss(trainer.model, trainer._prepare_inputs(inputs))
    return loss
