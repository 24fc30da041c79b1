"""The recipe, the fingerprint, the adapter's files, and that the command costs nothing before it runs."""

from __future__ import annotations

import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from router.errors import ConfigError, TrainingError
from router.fingerprint import FINGERPRINT_MESSAGES
from router.settings import TrainingSection
from tests.support.tiny_policy import save_tiny, tiny_tokenizer
from training.identity import template_fingerprint
from training.model import ADAPTER_CONFIG, ADAPTER_WEIGHTS, adapter_weights, load_policy, open_base_model, save_adapter
from training.recipe import recipe_sha256


def test_the_digest_follows_what_shapes_a_policy_and_not_the_models_folder() -> None:
    assert recipe_sha256(TrainingSection(model=Path("/a"))) == recipe_sha256(TrainingSection())
    assert recipe_sha256(TrainingSection(rank=8)) != recipe_sha256(TrainingSection())


def test_the_fingerprint_is_a_digest_of_the_rendered_ids() -> None:
    tokenizer = tiny_tokenizer()
    text = (
        "".join(f"<|start|>{each['role']}:{each['content']}\n" for each in FINGERPRINT_MESSAGES) + "<|start|>assistant:"
    )
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert ids.count(1) == 5
    assert template_fingerprint(tokenizer) == sha256(",".join(map(str, ids)).encode()).hexdigest()
    tokenizer.chat_template = tokenizer.chat_template.replace(":", " says ")
    assert template_fingerprint(tokenizer) != sha256(",".join(map(str, ids)).encode()).hexdigest()


def test_a_template_that_cannot_render_the_conversation_is_a_configuration_error() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{{ raise_exception('no system role') }}"
    with pytest.raises(ConfigError, match="no system role"):
        template_fingerprint(tokenizer)


def test_a_tokenizer_without_a_template_is_a_configuration_error(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ConfigError, match="has no chat template"):
        open_base_model(folder)


def test_an_adapter_with_a_weight_that_is_not_finite_is_not_saved(tmp_path: Path) -> None:
    policy = load_policy(open_base_model(save_tiny(tmp_path / "model")), None, TrainingSection())
    save_adapter(policy, adapter_weights(policy), tmp_path / "whole", "tiny")
    assert sorted(path.name for path in (tmp_path / "whole").iterdir()) == [ADAPTER_CONFIG, ADAPTER_WEIGHTS]
    weight = next(each for each in policy.parameters() if each.requires_grad)
    with torch.no_grad():
        weight[0, 0] = float("nan")
    with pytest.raises(TrainingError, match=r"training diverged: .* is not finite"):
        save_adapter(policy, adapter_weights(policy), tmp_path / "broken", "tiny")
    assert not (tmp_path / "broken").exists()


def test_only_the_configured_linear_layers_are_trained(tmp_path: Path) -> None:
    base = open_base_model(save_tiny(tmp_path))
    policy = load_policy(base, None, TrainingSection(lora_targets=("q_proj", "up_proj")))
    trained = {
        name.split(".lora_")[0].rsplit(".", 1)[1] for name, each in policy.named_parameters() if each.requires_grad
    }
    assert trained == {"q_proj", "up_proj"}
    assert base.limits.vocab_size == 258
    assert base.limits.max_length == 256


HELP = """
import argparse, json, sys
from training import command
parser = argparse.ArgumentParser()
command.register(parser.add_subparsers())
heavy = ("torch", "transformers", "trl", "peft", "pydantic", "datasets")
print(json.dumps([name for name in heavy if name in sys.modules]))
"""


def test_the_command_imports_nothing_heavy_before_it_runs() -> None:
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize("key", ["attention_dropout", "hidden_dropout"])
def test_23_a_model_trains_without_dropout_whatever_its_configuration_says(tmp_path: Path, key: str) -> None:
    folder = save_tiny(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {key: 0.5}))
    policy = load_policy(open_base_model(folder), None, TrainingSection()).train()
    assert getattr(policy.config, key) == 0
    ids = torch.arange(2, 40).unsqueeze(0)
    assert torch.equal(policy(input_ids=ids).logits, policy(input_ids=ids).logits)
