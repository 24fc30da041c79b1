"""A whole training run on a tiny model: sealed segments in, an immutable policy in the registry out."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from router.errors import TrainingError
from router.records import GroupRecord
from tests.support.tiny_policy import logged_row, tiny_model
from tests.support.training_log import trained_group, write_log
from tests.support.workshop import BAD, GOOD, NAME, Workshop, logprobs, mixed_group, workshop
from training.identity import logprobs_of
from training.page import PAGE, REPORT
from training.run import METRICS
from training.update import Ended


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    return workshop(tmp_path)


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
    assert sorted(path.name for path in report.folder.iterdir()) == [METRICS, PAGE, REPORT]
    assert f"<h1>{report.policy}</h1>" in (report.folder / PAGE).read_text()


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


def test_25_a_training_step_moves_the_adapter_alone(shop: Workshop) -> None:
    rng = random.Random(0)
    base = tiny_model()
    shop.log(base, 6)
    trained = shop.policy(shop.train().policy)
    row = logged_row(base, rng)
    with trained.disable_adapter():
        assert torch.equal(logprobs_of(trained, row), logprobs_of(base, row))
    merged = shop.policy(shop.registry.policies()[0].name).merge_and_unload()
    assert torch.allclose(logprobs_of(merged, row), logprobs_of(trained, row), atol=1e-5)


def test_activation_checkpointing_changes_nothing_but_the_memory(shop: Workshop) -> None:
    shop.log(tiny_model(), 4)
    plain, lean = shop.train(), shop.train(activation_checkpointing=True)
    trained = [logprobs(shop.policy(report.policy), GOOD) for report in (plain, lean)]
    assert trained[0] != logprobs(tiny_model(), GOOD)
    assert trained[1] == pytest.approx(trained[0], abs=1e-4)


class Cooled:
    """A model that is sampled at a temperature, and logs the log-probabilities of that distribution."""

    def __init__(self, model: Any, temperature: float) -> None:
        self.device, self._model, self._temperature = model.device, model, temperature

    def __call__(self, input_ids: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self._model(input_ids=input_ids).logits / self._temperature)


def test_logprobs_of_another_temperature_are_refused_with_the_reason(shop: Workshop) -> None:
    shop.log(Cooled(tiny_model(), 0.6), 4)
    with pytest.raises(TrainingError, match=r"rows of embedded 1 are not of the policy they name: .* temperature"):
        shop.train()
    assert shop.registry.policies() == ()
    warm = Workshop(replace(shop.place, log_dir=shop.place.log_dir.with_name("warm")))
    warm.log(Cooled(tiny_model(), 1.0), 4)
    assert warm.train().policy is not None
