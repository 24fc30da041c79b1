"""`thinktwice train`: what it prints, its exit codes, and one line for everything that cannot be used."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from router.errors import ConfigError, TrainingError
from router.settings import TrainingSection
from tests.support.tiny_policy import tiny_model
from tests.support.training_log import write_log
from tests.support.workshop import Workshop, mixed_group, workshop
from training import command
from training.run import train


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    return workshop(tmp_path)


def parse(*arguments: str | Path) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.register(parser.add_subparsers())
    return parser.parse_args(["train", *map(str, arguments)])


def arguments(shop: Workshop, *more: str) -> argparse.Namespace:
    place = shop.place
    model = () if "--model" in more else ("--model", place.model)
    return parse("--log-dir", place.log_dir, "--state-dir", place.state_dir, *model, *more)


SCRIPT = """
import argparse, sys
from training import command
parser = argparse.ArgumentParser()
command.register(parser.add_subparsers())
args = parser.parse_args(["train", *sys.argv[1:]])
sys.exit(args.run(args))
"""


def test_the_command_trains_in_a_process_of_its_own_and_prints_one_object(shop: Workshop, tmp_path: Path) -> None:
    shop.log(tiny_model(), 4)
    here = train(shop.place, TrainingSection(rank=4, learning_rate=1e-3, max_groups=3), lambda _: None)
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "models").mkdir(parents=True)
    (elsewhere / "models" / "tiny").symlink_to(shop.place.model)
    given = ["--log-dir", shop.place.log_dir, "--state-dir", elsewhere, "--rank", "4", "--lr", "1e-3"]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, given), "--max-groups", "3", "--json"],
        env=os.environ | {"PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["policy"] == here.policy
    assert found["counts"]["dropped_groups"] == {"over_limit": 1}


def test_the_command_says_what_it_did(shop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    shop.log(tiny_model(), 4)
    args = arguments(shop, "--rank", "4")
    assert args.run(args) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "groups kept           4" in out
    assert out.splitlines()[-1].startswith("registered policy-1-")
    (shop.place.log_dir / "w0" / "00000000000000000000.sealed").unlink()
    args = arguments(shop, "--rank", "4")
    assert args.run(args) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "nothing to train on: no policy was made; dropped groups: -"


def test_a_plan_says_what_a_cycle_would_take_and_changes_nothing(
    shop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.log(tiny_model(), 4)
    before = sorted(shop.place.log_dir.rglob("*"))
    args = arguments(shop, "plan", "--json")
    assert args.run(args) == 0
    planned = json.loads(capsys.readouterr().out)
    update = {each["name"]: each for each in planned["phases"]}["update"]
    assert planned["groups"] == 4 and update["tokens"] == 4 * 7 and update["seconds"] is None
    assert not shop.place.state_dir.exists() and sorted(shop.place.log_dir.rglob("*")) == before
    report = shop.train()
    assert report.forecast is not None and report.forecast.tokens == 28 and report.peak_mb is not None
    args = arguments(shop, "plan")
    assert args.run(args) == 0
    said = capsys.readouterr().out
    assert "the last run's pace and memory" in said and "4 groups would train" in said
    assert "advice: nothing simpler comes first" in said


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--rank", "0"], r"configuration key training\.rank: "),
        (["--epochs", "3"], r"configuration key training\.epochs: "),
        (["--lr", "nan"], r"configuration key training\.learning_rate: "),
        (["--seed", "-1"], r"configuration key training\.seed: "),
        (["--max-groups", "0"], r"configuration key training\.max_groups: "),
        (["--model", "/nowhere"], "/nowhere holds no model"),
        (["--config", "/nowhere.toml"], "does not exist"),
    ],
)
def test_a_flag_that_cannot_be_used_is_named(shop: Workshop, more: list[str], reason: str) -> None:
    shop.place.log_dir.mkdir()
    args = arguments(shop, *more)
    with pytest.raises(ConfigError, match=reason) as found:
        args.run(args)
    assert "\n" not in str(found.value)


def test_the_configuration_is_read_and_the_command_line_wins(shop: Workshop, tmp_path: Path) -> None:
    shop.log(tiny_model(), 2)
    file = tmp_path / "thinktwice.toml"
    file.write_text("[training]\nrank = 3\nseed = 5\n")
    args = arguments(shop, "--config", str(file), "--seed", "6")
    assert args.run(args) == 0
    kept = shop.registry.policies()[0].manifest["config"]
    assert (kept["rank"], kept["seed"], kept["epochs"]) == (3, 6, 1)


def test_a_missing_log_and_a_missing_or_doubtful_model_are_named(shop: Workshop, tmp_path: Path) -> None:
    args = parse("--log-dir", shop.place.log_dir, "--state-dir", shop.place.state_dir)
    with pytest.raises(ConfigError, match="there is no group log in"):
        args.run(args)
    shop.place.log_dir.mkdir()
    with pytest.raises(ConfigError, match="no model is in"):
        args.run(args)
    for name in ("a", "b"):
        (shop.place.state_dir / "models" / name).mkdir(parents=True)
        (shop.place.state_dir / "models" / name / "config.json").touch()
    with pytest.raises(ConfigError, match="2 models are in"):
        args.run(args)


@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_a_damaged_segment_is_one_line_and_the_others_train(
    shop: Workshop, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.log(tiny_model(), 2)
    path = write_log(shop.place.log_dir, [mixed_group(tiny_model(), 9)])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data if damage == "flip" else data[: len(data) // 2])
    args = arguments(shop, "--rank", "4")
    assert args.run(args) == 0
    out, err = capsys.readouterr()
    assert err.count("\n") == 1 and str(path) in err
    assert "groups kept           2" in out and "registered policy-1-" in out


def test_another_tokenizer_than_the_engines_is_named(shop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    shop.log(tiny_model(), 2)
    template = shop.place.model / "chat_template.jinja"
    template.write_text(template.read_text().replace(":", "says"))
    args = arguments(shop)
    assert args.run(args) == 0
    said = "nothing to train on: no policy was made; dropped groups: template 2"
    assert capsys.readouterr().out.splitlines()[-1] == said


def test_rows_without_logprobs_are_named(shop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    group = mixed_group(tiny_model(), 0)
    samples = [replace(each, rl_eligible=False, ineligible_reason="no_logprobs") for each in group.samples[:1]]
    samples += [replace(each, behavior_logprobs=None) for each in group.samples[1:]]
    write_log(shop.place.log_dir, [replace(group, samples=tuple(samples))])
    args = arguments(shop)
    assert args.run(args) == 0
    out = capsys.readouterr().out
    assert "dropped completions   ineligible_no_logprobs 1, length_mismatch 1" in out
    assert out.splitlines()[-1].endswith("no policy was made; dropped groups: no_rows 1")


@pytest.mark.parametrize("what", ["model.safetensors", "adapter"])
def test_damaged_weights_are_a_configuration_error(shop: Workshop, what: str) -> None:
    shop.log(tiny_model(), 2)
    weights = shop.place.model / "model.safetensors"
    if what == "adapter":
        name = shop.train().policy
        shop.registry.promote(name, "test", "test")
        shop.log(shop.policy(name), 2, str(name), start=100)
        weights = shop.registry.get(str(name)).path / "adapter_model.safetensors"
        weights.chmod(0o600)
    weights.write_bytes(weights.read_bytes()[:100])
    args = arguments(shop)
    with pytest.raises(ConfigError, match=r"cannot load .* with its adapter") as found:
        args.run(args)
    assert "\n" not in str(found.value)


def test_layers_that_the_model_lacks_are_a_configuration_error(shop: Workshop) -> None:
    shop.log(tiny_model(), 2)
    with pytest.raises(ConfigError, match=r"cannot load .* with its adapter"):
        shop.train(lora_targets=("nowhere",))


def test_a_disk_that_refuses_is_one_line_and_changes_nothing(shop: Workshop) -> None:
    shop.log(tiny_model(), 2)
    shop.place.state_dir.mkdir()
    (shop.place.state_dir / "training").write_text("a file where the run's folder should be")
    args = arguments(shop)
    with pytest.raises(TrainingError, match=r"cannot train: .*nothing was registered") as found:
        args.run(args)
    assert "\n" not in str(found.value)
    assert shop.registry.policies() == ()
