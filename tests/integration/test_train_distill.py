"""`thinktwice train --mode distill`: another model and tokenizer learn the verified answers from their text."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from router.errors import ConfigError, TrainingError
from tests.support.tiny_policy import save_tiny
from tests.support.training_log import trained_group, trained_sample, write_log
from training import command

ANSWER = {"role": "assistant", "content": "It is four."}
OTHER_TEMPLATE = (
    "{% for m in messages %}{{ '[' + m['role'] + ']' + m['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def log_of(tmp_path: Path, number: int = 8) -> Path:
    groups = [
        trained_group(
            f"g{n}", prompt_hash=f"{n + 240:x}" * 16, base_model="larger", policy="larger",
            messages=({"role": "user", "content": f"What is {n} + {4 - n}?"},),
            samples=(trained_sample(0, 1.0, message=ANSWER), trained_sample(1, 0.0, checks=())),
        )
        for n in range(number)
    ]  # fmt: skip
    write_log(tmp_path / "log", groups)
    return tmp_path / "log"


def student_of(tmp_path: Path) -> Path:
    folder = save_tiny(tmp_path / "student", seed=5)
    (folder / "chat_template.jinja").write_text(OTHER_TEMPLATE)
    return folder


def train(*arguments: str | Path) -> int:
    parser = argparse.ArgumentParser()
    command.register(parser.add_subparsers())
    args = parser.parse_args(["train", *map(str, arguments)])
    code: int = args.run(args)
    return code


@torch.no_grad()
def nll(folder: Path) -> float:
    """Of the answer to a prompt of the log, nats a token."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    start = tokenizer("[user]What is 1 + 3?<|end|>[assistant]")["input_ids"]
    ids = tokenizer(ANSWER["content"] + "<|end|>")["input_ids"]
    logits = model(input_ids=torch.tensor([start + ids])).logits[0, len(start) - 1 : -1]
    return float(torch.nn.functional.cross_entropy(logits, torch.tensor(ids)))


def test_the_student_learns_the_answers_and_is_a_whole_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)
    log, student, out = log_of(tmp_path), student_of(tmp_path), tmp_path / "made" / "taught"
    config = tmp_path / "thinktwice.toml"
    config.write_text("[training]\ncompletions_per_step = 2\nlearning_rate = 1e-2\nepochs = 2\n")
    given = [
        "--mode",
        "distill",
        "--student",
        student,
        "--out",
        out,
        "--log-dir",
        log,
        "--state-dir",
        tmp_path / "state",
    ]
    assert train(*given, "--config", config, "--json") == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["counts"]["rows_kept"] == 8
    assert told["counts"]["dropped_rows"] == {"not_verified": 8}
    assert len(told["losses"]) == 8
    assert told["losses"][0] == pytest.approx(nll(student), rel=0.1)  # of the answer's tokens alone
    assert nll(out) < nll(student) - 0.5
    assert json.loads((out / "distill.json").read_text())["counts"]["groups_kept"] == 8
    assert not (tmp_path / "state" / "policies").exists()
    assert [path.name for path in out.parent.iterdir()] == ["taught"]
    with pytest.raises(TrainingError, match="exists"):
        train(*given)


def test_nothing_verified_makes_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_log(tmp_path / "log", [trained_group(samples=(trained_sample(0, 0.0, checks=()),))])
    given = ["--mode", "distill", "--student", student_of(tmp_path), "--out", tmp_path / "out"]
    assert train(*given, "--log-dir", tmp_path / "log", "--state-dir", tmp_path / "state") == 0
    assert "nothing to learn from: no model was made; dropped groups: no_rows 1" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "given", [["--mode", "distill"], ["--student", "x", "--out", "y"], ["--mode", "distill", "--student", "x"]]
)
def test_what_distilling_needs_goes_together(tmp_path: Path, given: list[str]) -> None:
    (tmp_path / "log").mkdir()
    with pytest.raises(ConfigError, match="go together"):
        train(*given, "--log-dir", tmp_path / "log", "--state-dir", tmp_path / "state")
