"""A whole training run on a tiny model: sealed segments in, an immutable policy in the registry out."""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from router.errors import ConfigError
from router.records import GroupRecord
from router.registry import PolicyRegistry
from tests.support.tiny_policy import logged_row, save_tiny, tiny_model, tiny_tokenizer
from tests.support.training_log import PLAIN, trained_group, trained_sample, write_log
from training import command
from training.config import TrainConfig
from training.errors import TrainingError
from training.identity import logprobs_of, template_fingerprint
from training.model import quiet_peft
from training.report import Report
from training.rows import Row
from training.run import METRICS, REPORT, Place, train
from training.update import Ended

PROMPT, GOOD, BAD = (5, 6, 7), (11, 12, 0), (21, 22, 23, 0)
NAME = "tiny"


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model"))


@dataclass(frozen=True)
class Workshop:
    """A tiny model, its log and its state directory."""

    place: Place

    def log(self, policy: Any, groups: int, name: str = NAME, start: int = 0) -> None:
        """Write a segment of audited groups, each of one good and one bad completion, logged by `policy`."""
        write_log(self.place.log_dir, [mixed_group(policy, start + number, name) for number in range(groups)])

    def train(self, **config: Any) -> Report:
        known = {"learning_rate": 2e-3, "completions_per_step": 4, "rank": 4, "stop_kl": 100.0, "stop_clip_fraction": 1}
        return train(self.place, TrainConfig(**(known | config)), lambda _: None)

    @property
    def registry(self) -> PolicyRegistry:
        return PolicyRegistry(self.place.state_dir)

    def policy(self, name: str | None) -> Any:
        assert name is not None
        with quiet_peft():
            return PeftModel.from_pretrained(tiny_model(), str(self.registry.get(name).path)).eval()


@pytest.fixture
def shop(tmp_path: Path, model_folder: Path) -> Workshop:
    return Workshop(Place(tmp_path / "log", tmp_path / "state", model_folder))


def probe(completion: Sequence[int], logprobs: Sequence[float] | None = None) -> Row:
    length = len(completion)
    known = tuple(logprobs) if logprobs else (0.0,) * length
    return Row(0, PROMPT, tuple(completion), known, (True,) * length, 0.0, False)


@torch.no_grad()
def logprobs(policy: Any, completion: Sequence[int]) -> list[float]:
    found: list[float] = logprobs_of(policy, probe(completion)).tolist()
    return found


def mixed_group(policy: Any, number: int, name: str = NAME) -> GroupRecord:
    samples = [
        trained_sample(
            index, reward, policy=name, completion_token_ids=ids, behavior_logprobs=tuple(logprobs(policy, ids)),
            sampling=PLAIN,
        )
        for index, (ids, reward) in enumerate([(GOOD, 1.0), (BAD, 0.0)])
    ]  # fmt: skip
    return trained_group(
        f"g{number:03}", created_at=1.7e9 + number, base_model=NAME, policy=name, samples=tuple(samples),
        prompt_token_ids=PROMPT, template_fingerprint=template_fingerprint(tiny_tokenizer()),
    )  # fmt: skip


def test_30_fifty_steps_on_one_mixed_group_make_the_good_likelier_and_the_bad_less_so(shop: Workshop) -> None:
    base = tiny_model()
    shop.log(base, 50)
    report = shop.train(completions_per_step=2)
    assert (report.ended, len(report.steps)) == (Ended.DONE, 50)
    trained = shop.policy(report.policy)
    assert sum(logprobs(trained, GOOD)) > sum(logprobs(base, GOOD)) + 0.1
    assert sum(logprobs(trained, BAD)) < sum(logprobs(base, BAD)) - 0.1


def test_a_run_registers_an_immutable_policy_and_leaves_serving_alone(shop: Workshop) -> None:
    shop.log(tiny_model(), 10)
    report = shop.train()
    assert report.policy is not None
    assert shop.registry.champion().policy is None
    policy = shop.registry.get(report.policy)
    assert sorted(path.name for path in policy.path.iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "manifest.json",
    ]  # fmt: skip
    adapter = json.loads((policy.path / "adapter_config.json").read_text())
    # What vLLM refuses in an adapter, and what would tell this machine's paths.
    assert (adapter["bias"], adapter["modules_to_save"], adapter["use_dora"]) == ("none", None, False)
    assert (adapter["r"], adapter["lora_dropout"], adapter["base_model_name_or_path"]) == (4, 0.0, NAME)
    assert adapter["target_modules"] == sorted(adapter["target_modules"])
    assert "q_proj" in adapter["target_modules"]
    kept = policy.manifest
    assert (kept["base_model"], kept["parent"], kept["objective"]) == (NAME, None, "offline_clip")
    assert kept["data"]["groups"] == 10
    assert (kept["data"]["rows"], kept["data"]["mean_reward"]) == (20, 0.5)
    assert (kept["data"]["first_group"], kept["data"]["last_group"]) == ("g000", "g009")
    assert report.folder is not None
    lines = [json.loads(line) for line in (report.folder / METRICS).read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    assert all(line["rows"] == 4 and line["tokens"] == 14 for line in lines)
    assert lines[0]["kl"] < 1e-9 < lines[-1]["kl"]  # the first step starts at the logged policy
    assert json.loads((report.folder / REPORT).read_text())["policy"] == report.policy
    assert sorted(path.name for path in report.folder.iterdir()) == [METRICS, REPORT]


def test_22_seed_and_data_decide_every_byte(shop: Workshop, tmp_path: Path) -> None:
    shop.log(tiny_model(), 10)
    first = shop.train()
    elsewhere = Workshop(replace(shop.place, state_dir=tmp_path / "elsewhere"))
    again, other = elsewhere.train(), elsewhere.train(seed=1)
    assert (
        shop.registry.get(str(first.policy)).manifest["files"]
        == elsewhere.registry.get(str(again.policy)).manifest["files"]
    )
    assert again.policy == first.policy
    assert other.policy != first.policy
    assert elsewhere.train().policy == again.policy  # the same content keeps its name
    assert len(elsewhere.registry.policies()) == 2


def test_the_next_policy_goes_on_from_the_champion_and_from_its_rows_alone(shop: Workshop) -> None:
    shop.log(tiny_model(), 6)
    first = shop.train().policy
    shop.registry.promote(first, "test", "test")
    champion = shop.policy(first)
    shop.log(champion, 6, str(first), start=100)
    report = shop.train()
    assert report.parent == first
    assert report.counts.dropped_groups == {"other_policy": 6}
    assert report.steps[0].kl < 1e-9
    assert sum(logprobs(shop.policy(report.policy), GOOD)) > sum(logprobs(champion, GOOD))
    assert shop.registry.champion().policy == first


@pytest.mark.parametrize(
    ("limit", "ended"), [({"stop_kl": 1e-6}, Ended.KL), ({"stop_clip_fraction": 0.1}, Ended.CLIPPED)]
)
def test_a_run_that_drifts_too_far_ends_early(shop: Workshop, limit: dict[str, float], ended: Ended) -> None:
    shop.log(tiny_model(), 40)
    report = shop.train(learning_rate=1e-2, **limit)
    assert report.ended is ended
    assert 1 < len(report.steps) < 20
    assert report.policy is not None
    assert shop.registry.get(report.policy).manifest["ended"] == ended


def test_a_run_without_trainable_groups_registers_nothing(shop: Workshop) -> None:
    write_log(shop.place.log_dir, [replace_consent(mixed_group(tiny_model(), 0))])
    report = shop.train()
    assert report.policy is None
    assert report.counts.dropped_groups == {"no_consent": 1}
    assert not shop.place.state_dir.exists()


def replace_consent(record: GroupRecord) -> GroupRecord:
    values = {name: getattr(record, name) for name in record.__struct_fields__}
    return GroupRecord(**(values | {"train_consent": False}))


def test_rows_of_other_weights_are_refused_with_the_reason(shop: Workshop) -> None:
    shop.log(tiny_model(seed=1), 4)
    with pytest.raises(TrainingError, match=r"rows of embedded 1 are not of the policy they name: mean KL .* nats"):
        shop.train()
    assert shop.registry.policies() == ()


def test_rows_of_one_foreign_source_are_left_out_and_the_rest_trains(shop: Workshop) -> None:
    shop.log(tiny_model(), 4)
    strange = mixed_group(tiny_model(seed=1), 50)
    values = {name: getattr(strange, name) for name in strange.__struct_fields__}
    write_log(shop.place.log_dir, [GroupRecord(**(values | {"engine": "other"}))])
    report = shop.train()
    assert report.policy is not None
    assert report.counts.dropped_groups == {"identity": 1}
    assert (report.counts.groups_kept, report.counts.rows_kept) == (4, 8)
    assert "other 1" in report.counts.problems[0]


def test_another_chat_template_drops_the_group(shop: Workshop) -> None:
    write_log(shop.place.log_dir, [trained_group("g", base_model=NAME, policy=NAME, template_fingerprint="0" * 64)])
    assert shop.train().counts.dropped_groups == {"template": 1}


def test_a_training_step_moves_the_adapter_alone(shop: Workshop) -> None:
    rng = random.Random(0)
    base = tiny_model()
    shop.log(base, 6)
    trained = shop.policy(shop.train().policy)
    row = logged_row(base, rng)
    with trained.disable_adapter():
        assert torch.equal(logprobs_of(trained, row), logprobs_of(base, row))
    merged = shop.policy(shop.registry.policies()[0].name).merge_and_unload()
    assert torch.allclose(logprobs_of(merged, row), logprobs_of(trained, row), atol=1e-5)


# --- the command --------------------------------------------------------------------------------------------------


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
    here = train(shop.place, TrainConfig(rank=4, learning_rate=1e-3, max_groups=3), lambda _: None)
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
    assert capsys.readouterr().out.splitlines()[-1] == "nothing to train on: no policy was made"


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--rank", "0"], "--rank"),
        (["--epochs", "3"], "--epochs"),
        (["--lr", "nan"], "--learning-rate"),
        (["--seed", "-1"], "--seed"),
        (["--max-groups", "0"], "--max-groups"),
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
