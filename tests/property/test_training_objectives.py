"""The other objectives and the added terms: properties 19, 21 and 28, each against a second computation."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from peft import LoraConfig, get_peft_model
from torch import Tensor

from router.settings import Mode, Objective, TrainingSection
from tests.support.reference_loss import Clip, as_tensors, policy_logprobs, reference_loss
from tests.support.tiny_policy import logged_row, shifted, tiny_model, tiny_tokenizer
from training.advantage import WeightedRow
from training.batches import Step
from training.collate import TIS_CAP, collate, collate_steps, decoupled
from training.drift import DriftMeter, effective_share
from training.groups import Group
from training.imitation import as_examples
from training.model import quiet_peft
from training.seam import CISPO_CAP, OfflineGRPOTrainer, trl_arguments

GAPS = [0.3, -0.4, 0.05, 1.7, -0.9, 0.0]


@pytest.fixture
def model() -> Any:
    return tiny_model()


def rows_of(model: Any, gaps: Sequence[float]) -> list[WeightedRow]:
    """Good and bad rows as if logged by a policy `gaps` away."""
    rng = random.Random(3)
    return [shifted(WeightedRow(logged_row(model, rng, index=i), 1.0 - 2 * (i % 2)), list(gaps)) for i in range(6)]


def trainer_of(
    model: Any, tmp: Path, config: TrainingSection, micro_batches: Sequence[Sequence[WeightedRow]]
) -> OfflineGRPOTrainer:
    args = trl_arguments(config, 1, len(micro_batches), tmp)
    batches = collate_steps([Step(tuple(map(tuple, micro_batches)))])
    trainer = OfflineGRPOTrainer(model, tiny_tokenizer(), args, batches, DriftMeter(0.8, 1.28))
    trainer.current_gradient_accumulation_steps = len(micro_batches)
    return trainer


def gradient(trainer: OfflineGRPOTrainer, model: Any) -> dict[str, Tensor]:
    """Of one step over the trainer's batches."""
    model.zero_grad()
    for inputs in trainer.get_train_dataloader():
        trainer.compute_loss(model, trainer._prepare_inputs(inputs)).backward()
    return gradients_of(model)


def gradients_of(model: Any) -> dict[str, Tensor]:
    return {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert any(each.abs().max() > 1e-3 for each in wanted.values())
    for name, each in wanted.items():
        assert torch.allclose(found[name], each, rtol=1e-4, atol=3e-6), name


def by_hand(model: Any, rows: Sequence[WeightedRow], loss: Any) -> dict[str, Tensor]:
    """Gradient of the mean over all tokens of `loss(row, log-probabilities)` [T], unpadded."""
    model.zero_grad()
    tokens = sum(each.row.actions for each in rows)
    for each in rows:
        logprobs = policy_logprobs(model, torch.tensor(each.row.prompt_ids), torch.tensor(each.row.completion_ids))
        (loss(each, logprobs).sum() / tokens).backward()
    return gradients_of(model)


CISPO = TrainingSection(objective=Objective.CISPO)


def test_8_cispo_of_the_configuration_is_the_reference(model: Any, tmp_path: Path) -> None:
    rows = rows_of(model, GAPS)
    found = gradient(trainer_of(model, tmp_path, CISPO, [rows]), model)
    model.zero_grad()
    reference_loss(model, as_tensors(rows), "cispo", Clip(high=CISPO_CAP)).backward()  # type: ignore[no-untyped-call]
    assert_same(found, gradients_of(model))


def test_10_cispo_takes_stale_rows_by_a_truncated_weight_on_the_advantage(model: Any, tmp_path: Path) -> None:
    rows = rows_of(model, GAPS)
    trainer = trainer_of(model, tmp_path, CISPO, [rows[:4], rows[4:]])
    trainer.anchor(decouple=True)

    def loss(each: WeightedRow, logprobs: Tensor) -> Tensor:
        start = logprobs.detach()
        weight = (start - torch.tensor(each.row.logprobs)).exp().clamp(max=TIS_CAP)
        masked = each.advantage < 0 and (torch.tensor(each.row.logprobs) - start).mean() > 0.5
        return -weight * each.advantage * logprobs * (not masked)  # the ratio to the start is 1

    assert_same(gradient(trainer, model), by_hand(model, rows, loss))


def test_19_decoupled_mode_at_the_logged_policy_is_two_policy_mode(model: Any) -> None:
    inputs = collate(rows_of(model, GAPS), 10)
    same = decoupled(inputs, inputs["old_per_token_logps"])
    assert torch.equal(same["advantages"], inputs["advantages"])
    assert torch.equal(same["old_per_token_logps"], inputs["old_per_token_logps"])


def test_28_the_gradient_of_rft_is_the_token_mean_nll_and_so_is_its_loss(model: Any, tmp_path: Path) -> None:
    rows = [replace(each.row, logprobs=()) for each in rows_of(model, [0.0])]
    weighted = [WeightedRow(row, 1.0) for row in rows]
    trainer = trainer_of(model, tmp_path, TrainingSection(mode=Mode.RFT), [weighted[:2], weighted[2:]])
    assert_same(gradient(trainer, model), by_hand(model, weighted, lambda _, logprobs: -logprobs))
    whole = trainer_of(model, tmp_path, TrainingSection(mode=Mode.RFT), [weighted])
    loss = whole.compute_loss(model, whole._prepare_inputs(collate(weighted, sum(r.actions for r in rows))))
    logprobs = [policy_logprobs(model, torch.tensor(r.prompt_ids), torch.tensor(r.completion_ids)) for r in rows]
    assert loss.item() == pytest.approx(-torch.cat(logprobs).mean().item(), rel=1e-5)


def test_28_examples_weigh_one_whatever_their_siblings_earned(model: Any) -> None:
    rows = tuple(each.row for each in rows_of(model, [0.0]))
    assert [each.advantage for each in as_examples([Group("g", 0.0, "engine 1", True, rows)])[0]] == [1.0] * 6


def test_15_the_kl_term_is_nothing_at_the_start_and_pulls_back_later(model: Any, tmp_path: Path) -> None:
    beta, target = 0.7, ["q_proj", "v_proj", "down_proj"]
    with quiet_peft():
        model = get_peft_model(model, LoraConfig(r=4, target_modules=target, init_lora_weights=False)).eval()
    rows = [WeightedRow(each.row, 0.0) for each in rows_of(model, [0.0])]
    trainer = trainer_of(model, tmp_path, TrainingSection(kl_beta=beta), [rows[:2], rows[2:]])
    trainer.anchor(decouple=False)
    assert all(each.abs().max() < 1e-6 for each in gradient(trainer, model).values())
    with torch.no_grad():
        for weight in (each for each in model.parameters() if each.requires_grad):
            weight.mul_(1.3)

    def loss(each: WeightedRow, logprobs: Tensor) -> Tensor:
        gap = torch.tensor(each.row.logprobs) - logprobs  # the logged policy is the one at the start
        return beta * (gap.exp() - gap - 1) * (-gap).exp()  # k3 times the ratio (DeepSeek-V3.2)

    assert_same(gradient(trainer, model), by_hand(model, rows, loss))


def test_the_entropy_bonus_is_the_mean_entropy_of_the_actions(model: Any, tmp_path: Path) -> None:
    rows = [WeightedRow(each.row, 0.0) for each in rows_of(model, [0.0])]
    found = gradient(trainer_of(model, tmp_path, TrainingSection(entropy_bonus=0.3), [rows]), model)
    model.zero_grad()
    tokens = sum(each.row.actions for each in rows)
    for each in rows:
        ids = torch.tensor([[*each.row.prompt_ids, *each.row.completion_ids]])
        spread = model(input_ids=ids).logits[0, len(each.row.prompt_ids) - 1 : -1].log_softmax(-1)
        (0.3 * (spread.exp() * spread).sum() / tokens).backward()
    assert_same(found, gradients_of(model))


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=20), st.floats(-3, 3))
def test_21_the_effective_share_is_one_for_equal_weights_and_ignores_a_factor(gaps: list[float], shift: float) -> None:
    share = effective_share(torch.tensor(gaps))
    assert 1 / len(gaps) - 1e-6 <= share <= 1 + 1e-6
    assert effective_share(torch.tensor(gaps) + shift) == pytest.approx(share, rel=1e-4)
    assert effective_share(torch.full((7,), shift)) == pytest.approx(1.0)


def test_21_one_weight_that_outweighs_all_others_is_one_sample() -> None:
    assert effective_share(torch.tensor([19.0, 0.0, 0.0, 0.0])) == pytest.approx(0.25, rel=1e-6)
