"""The language model: weights, tokenizer, LoRA adapters, and one forward pass."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.cache_utils import Cache

from gateway.engine.errors import ApiError, EngineSetupError
from gateway.engine.grammar import GrammarCompiler

ATTENTION_LAYERS = {"full_attention", "sliding_attention"}
"""Layer types whose state is a plain key/value cache; state-space layers cannot be batched by padding."""


class Device(StrEnum):
    """Where the model runs; `auto` is CUDA, then Apple's MPS, then the CPU."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"


class Dtype(StrEnum):
    """Precision of the weights and the forward pass; `auto` is bfloat16 on CUDA and float32 elsewhere."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter in memory. `slot` is its name inside peft, never used twice."""

    name: str
    path: str
    slot: str


@dataclass(slots=True)
class LanguageModel:
    """A causal language model ready to serve. Only the generation thread may call `forward` and the adapter methods."""

    network: Any
    hf_tokenizer: Any
    path: str
    device: torch.device
    max_model_len: int
    eos_id: int
    end_ids: frozenset[int]
    _active: str | None = None
    # peft's view of `network`, in whose layers it injects adapters. Only `network` itself is ever called: peft's own
    # forward fails once the last adapter is gone.
    _adapters: Any = None

    @property
    def tokenizer(self) -> Tokenizer:
        """The fast tokenizer beneath the Hugging Face one; decoding with it is thread-safe."""
        tokenizer: Tokenizer = self.hf_tokenizer.backend_tokenizer
        return tokenizer

    @property
    def vocab_size(self) -> int:
        """Width of the logits, which may exceed the tokenizer's vocabulary."""
        return int(self.network.config.get_text_config().vocab_size)

    @property
    def layer_count(self) -> int:
        """Number of layers, hence of key/value caches."""
        return int(self.network.config.get_text_config().num_hidden_layers)

    def grammar_compiler(self) -> GrammarCompiler:
        """Return a compiler of JSON schemas for this tokenizer."""
        return GrammarCompiler(self.hf_tokenizer, self.vocab_size, self.eos_id)

    def forward(self, slot: str | None, ids: Tensor, positions: Tensor, mask: Tensor | None, cache: Cache) -> Tensor:
        """Run `ids` [rows, new] on top of `cache` under an adapter and return float32 logits [rows, vocabulary].

        `positions` [rows, new] count real tokens; `mask` bool [rows, cached + new] hides left padding, None if there
        is none. The logits are those of the last position.
        """
        if slot != self._active:
            self._switch(slot)
        out = self.network(
            input_ids=ids, position_ids=positions, attention_mask=mask, past_key_values=cache, use_cache=True,
            logits_to_keep=1,
        )  # fmt: skip
        logits: Tensor = out.logits[:, -1].float()
        # MPS has no float64, which sampling needs.
        return logits.cpu() if self.device.type == "mps" else logits

    def load_adapter(self, adapter: Adapter) -> None:
        """Add LoRA weights from a folder. Raises ApiError (400) when they do not fit; the model is then unchanged."""
        from peft import PeftConfig, PeftModel  # noqa: PLC0415  (a second of import that most runs never need)

        try:
            if self._adapters is None:
                self._adapters = PeftModel(self.network, PeftConfig.from_pretrained(adapter.path), adapter.slot)
            loaded = self._adapters.load_adapter(adapter.path, adapter_name=adapter.slot)
            stray = [*loaded.unexpected_keys, *(k for k in loaded.missing_keys if "lora_" in k)]
            if stray:
                raise ValueError(f"its tensors do not match the model's modules, for example {stray[0]}")
        except (ValueError, RuntimeError, OSError, KeyError, TypeError) as error:
            self._drop(adapter.slot)
            reason = str(error).splitlines()[0]
            raise ApiError(f"The LoRA adapter at '{adapter.path}' cannot be loaded: {reason}", "lora_path") from error
        self.network.requires_grad_(False).eval()
        self._switch(adapter.slot)

    def unload_adapter(self, adapter: Adapter) -> None:
        """Free an adapter's weights."""
        self._drop(adapter.slot)

    def _drop(self, slot: str) -> None:
        if self._adapters is not None and slot in self._adapters.peft_config:
            with warnings.catch_warnings():
                # peft warns that it activates another adapter instead; the next line turns all of them off.
                warnings.simplefilter("ignore")
                self._adapters.delete_adapter(slot)
            self._switch(None)

    def _switch(self, slot: str | None) -> None:
        if slot is None:
            self._adapters.base_model.disable_adapter_layers()
        else:
            self._adapters.base_model.enable_adapter_layers()
            self._adapters.set_adapter(slot)
        self._active = slot


def load_model(path: str, device: Device, dtype: Dtype, max_model_len: int | None) -> LanguageModel:
    """Load a model by local path or Hugging Face id. Raises EngineSetupError with the cure."""
    target = resolve_device(device)
    precision = resolve_dtype(dtype, target)
    try:
        config = AutoConfig.from_pretrained(path)
        tokenizer = AutoTokenizer.from_pretrained(path)
        network: Any = AutoModelForCausalLM.from_pretrained(path, dtype=precision, attn_implementation="sdpa")
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = str(error).splitlines()[0]
        cure = "check --model: a folder in Hugging Face format or a model id"
        raise EngineSetupError(f"cannot load '{path}': {reason}; {cure}") from error
    text_config = config.get_text_config()
    unsupported = set(getattr(text_config, "layer_types", None) or ()) - ATTENTION_LAYERS
    if unsupported:
        raise EngineSetupError(f"'{path}' has {', '.join(sorted(unsupported))} layers; serve it with vLLM instead")
    if not getattr(tokenizer, "is_fast", False):
        raise EngineSetupError(f"'{path}' has no fast tokenizer (tokenizer.json); serve it with vLLM instead")
    network.eval().requires_grad_(False).to(target)
    context = int(text_config.max_position_embeddings)
    if max_model_len is not None and not 1 < max_model_len <= context:
        raise EngineSetupError(f"--max-model-len must be between 2 and {context}, the context of '{path}'")
    eos_id, end_ids = end_tokens(tokenizer.eos_token_id, network.generation_config.eos_token_id)
    if eos_id is None:
        raise EngineSetupError(f"'{path}' names no end-of-sequence token; set eos_token in tokenizer_config.json")
    return LanguageModel(network, tokenizer, path, target, max_model_len or context, eos_id, end_ids)


def end_tokens(tokenizer_eos: int | None, configured: int | list[int] | None) -> tuple[int | None, frozenset[int]]:
    """Return the end-of-sequence token and every token that ends a sequence (generation_config may name more)."""
    listed = configured if isinstance(configured, list) else [configured]
    ends = frozenset(i for i in (tokenizer_eos, *listed) if i is not None)
    return (tokenizer_eos if tokenizer_eos is not None else listed[0]), ends


def resolve_device(device: Device) -> torch.device:
    """Pick the device. Raises EngineSetupError when the one asked for is not there."""
    available = {
        Device.CUDA: torch.cuda.is_available(),
        Device.MPS: torch.backends.mps.is_available(),
        Device.CPU: True,
    }
    if device is Device.AUTO:
        device = next(d for d, there in available.items() if there)
    if not available[device]:
        raise EngineSetupError(f"--device {device} is not available here; use --device auto or --device cpu")
    return torch.device(device.value)


def resolve_dtype(dtype: Dtype, device: torch.device) -> torch.dtype:
    """Pick the precision: float32 is exact and, on CPUs without bfloat16 units, also the fastest."""
    if dtype is Dtype.AUTO:
        dtype = Dtype.BFLOAT16 if device.type == "cuda" else Dtype.FLOAT32
    return {Dtype.FLOAT32: torch.float32, Dtype.BFLOAT16: torch.bfloat16}[dtype]
