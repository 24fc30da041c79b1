"""LoRA adapters: loaded at runtime under new names, exact beside each other, refused when they do not fit."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaForCausalLM

if TYPE_CHECKING:
    from tests.unit.gateway.engine.conftest import Client

# peft 0.21 asks transformers 5.23 for an attribute under its old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"
PIN: dict[str, Any] = {"max_tokens": 12, "seed": 4, "ignore_eos": True, "logprobs": True, "return_token_ids": True}


@pytest.fixture(scope="module")
def adapters(tiny_path: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two adapters with random weights, of different rank and target modules."""
    folders = []
    for seed, (rank, targets) in enumerate([(4, ["q_proj", "v_proj"]), (2, ["down_proj", "k_proj"])]):
        torch.manual_seed(seed)
        config = LoraConfig(r=rank, target_modules=targets, init_lora_weights=False, task_type="CAUSAL_LM")
        folder = tmp_path_factory.mktemp(f"adapter{seed}")
        get_peft_model(LlamaForCausalLM.from_pretrained(tiny_path), config).save_pretrained(str(folder))
        folders.append(folder)
    return folders


def expected_logprobs(tiny_path: Path, adapter: Path | None, answer: dict[str, Any]) -> list[torch.Tensor]:
    """What a fresh model with this adapter alone says of the tokens of an answer."""
    network: Any = LlamaForCausalLM.from_pretrained(tiny_path, dtype=torch.float32)
    if adapter is not None:
        network = PeftModel.from_pretrained(network, adapter)
    prompt = answer["prompt_token_ids"]
    rows = []
    for choice in answer["choices"]:
        with torch.no_grad():
            logits = network(torch.tensor([[*prompt, *choice["token_ids"]]])).logits[0, len(prompt) - 1 : -1]
        rows.append(logits.log_softmax(-1).gather(1, torch.tensor(choice["token_ids"]).unsqueeze(1)).squeeze(1))
    return rows


def test_adapters_serve_side_by_side_with_exact_logprobs(client: Client, tiny_path: Path, adapters: list[Path]) -> None:
    before = client.chat(**PIN)
    for name, path in zip(("policy-1", "policy-2"), adapters, strict=True):
        assert client.post(LOAD, {"lora_name": name, "lora_path": str(path)})[0] == 200
    cards = {card["id"]: card for card in client.get("/v1/models")[1]["data"]}
    assert [cards[n]["parent"] for n in ("tiny", "policy-1", "policy-2")] == [None, "tiny", "tiny"]
    assert cards["policy-2"]["root"] == str(adapters[1])
    names: dict[str, Path | None] = {"tiny": None, "policy-1": adapters[0], "policy-2": adapters[1]}
    # Long companions on every adapter, so that the answers below really alternate with them.
    streams = [client.raw("POST", "/v1/chat/completions", companion(name)) for name in names]
    for name, folder in names.items():
        answer = client.chat(**PIN, model=name)
        assert answer["model"] == name
        for choice, expected in zip(answer["choices"], expected_logprobs(tiny_path, folder, answer), strict=True):
            got = torch.tensor([entry["logprob"] for entry in choice["logprobs"]["content"]])
            assert (got - expected).abs().max() <= 1e-3
        assert (answer["choices"][0]["token_ids"] == before["choices"][0]["token_ids"]) == (name == "tiny")
    for stream in streams:
        assert stream.read().endswith(b"data: [DONE]\n\n")
    for name in ("policy-1", "policy-2"):
        assert client.post(UNLOAD, {"lora_name": name})[0] == 200
    assert client.post("/v1/chat/completions", {"messages": [], "model": "policy-1"})[0] == 404
    assert client.chat(**PIN)["choices"] == before["choices"]


def companion(name: str) -> bytes:
    body = {"messages": [{"role": "user", "content": "x"}], "model": name, "max_tokens": 60, "stream": True}
    return json.dumps({**body, "ignore_eos": True}).encode()


def test_an_adapter_unloaded_under_way_finishes_its_answer(client: Client, adapters: list[Path]) -> None:
    client.post(LOAD, {"lora_name": "leaving", "lora_path": str(adapters[0])})
    answer = client.raw("POST", "/v1/chat/completions", companion("leaving"))
    assert client.post(UNLOAD, {"lora_name": "leaving"})[0] == 200
    assert answer.read().count(b'"finish_reason":"length"') == 1
    assert client.chat(**PIN)["choices"][0]["finish_reason"] == "length"


def test_refusals(client: Client, adapters: list[Path], tmp_path: Path) -> None:
    def load(name: str, path: Path | str) -> tuple[int, str | None]:
        status, body = client.post(LOAD, {"lora_name": name, "lora_path": str(path)})
        return status, body["error"]["param"] if status != 200 else None

    assert load("once", adapters[0]) == (200, None)
    assert load("once", adapters[1]) == (400, "lora_name")
    assert load("tiny", adapters[0]) == (400, "lora_name")
    assert load("", adapters[0]) == (400, "lora_name")
    assert load("x", "") == (400, "lora_path")
    assert load("x", tmp_path / "nowhere") == (404, "lora_path")
    assert load("x", tmp_path) == (404, "lora_path")
    (tmp_path / "adapter_config.json").write_text("{")
    assert load("x", tmp_path) == (400, "lora_path")
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "IA3"}')
    assert load("x", tmp_path) == (400, "lora_path")
    assert client.post(UNLOAD, {"lora_name": "nobody"})[0] == 404
    assert client.post(UNLOAD, {"lora_name": "once"})[0] == 200


def test_an_adapter_of_another_shape_is_refused_and_leaves_no_trace(
    client: Client, adapters: list[Path], tmp_path: Path
) -> None:
    before = client.chat(**PIN)["choices"]
    folder = tmp_path / "wrong"
    shutil.copytree(adapters[0], folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "r": 3}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        status, body = client.post(LOAD, {"lora_name": "wrong", "lora_path": str(folder)})
    assert (status, body["error"]["param"]) == (400, "lora_path")
    (folder / "adapter_config.json").write_text(json.dumps({**config, "target_modules": ["nothing_like_this"]}))
    assert client.post(LOAD, {"lora_name": "wrong", "lora_path": str(folder)})[0] == 400
    assert client.post("/v1/chat/completions", {"messages": [], "model": "wrong"})[0] == 404
    assert client.chat(**PIN)["choices"] == before
