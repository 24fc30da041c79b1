"""The default model: converted once, with the tokenizer, template and end token it was trained with."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from gateway.engine import default_model
from gateway.engine.default_model import FOLDER, GGUF_SHA256, ensure_default_model, pinned_gguf
from gateway.engine.errors import EngineSetupError


@pytest.fixture(scope="session")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """THINKTWICE_TEST_STATE keeps the conversion (about 40 s) between runs."""
    return Path(os.environ.get("THINKTWICE_TEST_STATE") or tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="session")
def folder(state_dir: Path) -> Path:
    return ensure_default_model(state_dir)


@pytest.fixture(scope="session")
def tokenizer(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


def test_a_second_call_converts_nothing(folder: Path, state_dir: Path) -> None:
    converted = [(each, each.stat().st_mtime_ns) for each in sorted(folder.iterdir())]
    assert ensure_default_model(state_dir) == folder
    assert converted == [(each, each.stat().st_mtime_ns) for each in sorted(folder.iterdir())]
    assert folder.name == f"smollm2-135m-instruct-{GGUF_SHA256[:8]}"


def test_the_folder_is_a_plain_llama(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    wanted = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "bfloat16", "vocab_size": 49152}
    assert {key: config[key] for key in wanted} == wanted
    assert (config["eos_token_id"], config["tie_word_embeddings"], config["max_position_embeddings"]) == (2, True, 8192)
    assert "quantization_config" not in config
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == 2
    assert (folder / "model.safetensors").stat().st_size > 250_000_000


def test_the_chat_template_and_special_tokens(tokenizer: Any) -> None:
    text = tokenizer.apply_chat_template(
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        add_generation_prompt=True, tokenize=False,
    )  # fmt: skip
    assert text == ("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("<|im_end|>", 2)
    assert tokenizer.encode("<|im_start|>a<|im_end|>")[::2] == [1, 2]


def test_digits_and_the_blank_before_them_are_tokens_of_their_own(tokenizer: Any) -> None:
    pieces = tokenizer.convert_ids_to_tokens(tokenizer.encode("add 123 to  45"))
    assert pieces == ["add", "Ġ", "1", "2", "3", "Ġto", "ĠĠ", "4", "5"]


def test_it_knows_something(folder: Path, tokenizer: Any) -> None:
    network: Any = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    out = network.generate(**prompt, max_new_tokens=20, do_sample=False)
    assert "Paris" in tokenizer.decode(out[0, prompt["input_ids"].shape[1] :])


def test_concurrent_starts_convert_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conversions = []

    def slow_convert(gguf: Path, target: Path) -> None:
        conversions.append(gguf)
        target.mkdir()
        (target / "config.json").write_text("{}")
        time.sleep(0.2)

    monkeypatch.setattr(default_model, "convert", slow_convert)
    (tmp_path / "models" / f".{FOLDER}.building").mkdir(parents=True)  # what a killed conversion leaves behind
    threads = [threading.Thread(target=ensure_default_model, args=(tmp_path,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(conversions) == 1
    assert (tmp_path / "models" / FOLDER / "config.json").is_file()


def test_another_file_than_the_pinned_one_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(default_model, "GGUF_SHA256", "0" * 64)
    with pytest.raises(EngineSetupError, match="not the pinned"):
        ensure_default_model(tmp_path)
    assert not (tmp_path / "models" / FOLDER).exists()


def test_a_missing_wheel_names_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(default_model, "PACKAGE", "no-such-package-here")
    with pytest.raises(EngineSetupError, match="pip install no-such-package-here"):
        pinned_gguf()


def test_a_state_directory_that_cannot_be_written_names_the_cure(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file")
    with pytest.raises(EngineSetupError, match="--state-dir"):
        ensure_default_model(tmp_path)
