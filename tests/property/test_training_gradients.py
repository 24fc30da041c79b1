"""Gradients of whole steps through the model: properties 2, 3, 7, 8, 12 and 16, against the independent reference."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.training_args import OptimizerNames

from router.settings import TrainingSection
from tests.support.reference_loss import Clip, as_tensors, policy_logprobs, reference_loss
from tests.support.tiny_policy import logged_row, loss_of, shifted, tiny_model, tiny_tokenizer, weighed
from training.advantage import WeightedRow
from training.batches import Step, plan_steps
from training.collate import collate, collate_steps
from training.drift import DriftMeter
from training.groups import Group
from training.identity import check_identity
from training.rows import Row
from training.seam import OfflineGRPOTrainer, trl_arguments

GAPS = [0.3, -0.4, 0.05, 1.7, -0.9, 0.0]


@pytest.fixture
def model() -> Any:
    return tiny_model()


def groups_of(model: Any, rng: random.Random) -> list[list[WeightedRow]]:
    """Groups of 2, 3, 5 and 2 rows with leave-one-out advantages, drawn by the model itself."""
    made = []
    for number, size in enumerate((2, 3, 5, 2)):
        rows = [logged_row(model, rng, reward=float(i % 2), index=i) for i in range(size)]
        made.append(Group(f"g{number}", 0.0, "engine 1", True, tuple(rows)))
    return weighed(made)


def rows_of(model: Any, gaps: Sequence[float] = (0.0,)) -> list[WeightedRow]:
    """The rows of those groups as if logged by a policy `gaps` away."""
    return [shifted(each, list(gaps)) for group in groups_of(model, random.Random(7)) for each in group]


def drifted_rows(model: Any) -> list[WeightedRow]:
    """Rows with ratios on both sides of every bound; some bad ones fell so far that they are left out."""
    rows = rows_of(model, GAPS)
    bad = [index for index, each in enumerate(rows) if each.advantage < 0]
    for index in bad[::2]:
        rows[index] = shifted(rows[index], [-3.0, 0.1])
    return rows


def trainer_of(model: Any, tmp: Path, micro_batches: int = 1, **arguments: Any) -> OfflineGRPOTrainer:
    args = trl_arguments(TrainingSection(), 1, micro_batches, tmp)
    for name, value in arguments.items():
        assert hasattr(args, name)
        setattr(args, name, value)
    trainer = OfflineGRPOTrainer(model, tiny_tokenizer(), args, [], DriftMeter(0.8, 1.28))
    trainer.current_gradient_accumulation_steps = micro_batches
    return trainer


def gradient(
    model: Any, tmp: Path, micro_batches: Sequence[Sequence[WeightedRow]], **arguments: Any
) -> dict[str, Tensor]:
    """Gradient by parameter of one step cut into these micro-batches."""
    trainer = trainer_of(model, tmp, len(micro_batches), **arguments)
    step = Step(tuple(map(tuple, micro_batches)))
    model.zero_grad()
    for inputs in collate_steps([step]):
        loss_of(trainer, inputs).backward()  # type: ignore[no-untyped-call]
    return gradients_of(model)


def reference_gradient(model: Any, rows: Sequence[WeightedRow], kind: str, clip: Clip) -> dict[str, Tensor]:
    """The same by the independent implementation, row by row and unpadded."""
    model.zero_grad()
    reference_loss(model, as_tensors(rows), kind, clip, max_length=256).backward()  # type: ignore[no-untyped-call]
    return gradients_of(model)


def gradients_of(model: Any) -> dict[str, Tensor]:
    return {name: each.grad.clone() for name, each in model.named_parameters()}


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    assert any(each.abs().max() > 1e-3 for each in wanted.values())
    for name, each in wanted.items():
        assert torch.allclose(found[name], each, rtol=1e-4, atol=2e-6), name


def test_2_padding_changes_nothing(model: Any, tmp_path: Path) -> None:
    rows = drifted_rows(model)
    assert len({len(each.row.prompt_ids) for each in rows}) > 2
    assert len({len(each.row.completion_ids) for each in rows}) > 2
    assert_same(gradient(model, tmp_path, [rows]), gradient(model, tmp_path, [[each] for each in rows]))


def test_3_neither_order_nor_micro_batches_change_a_step(model: Any, tmp_path: Path) -> None:
    rows = drifted_rows(model)
    whole = gradient(model, tmp_path, [rows])
    assert_same(gradient(model, tmp_path, [rows[i::4] for i in range(4)]), whole)
    assert_same(gradient(model, tmp_path, [rows[:3], rows[3:4], rows[4:]]), whole)
    assert_same(gradient(model, tmp_path, [random.Random(1).sample(rows, len(rows))]), whole)


def test_3_the_plan_keeps_every_row_and_its_steps_alike(model: Any) -> None:
    groups = groups_of(model, random.Random(7))
    config = TrainingSection(completions_per_step=5, micro_batch_tokens=24, epochs=2)
    steps = plan_steps(groups, config)
    seen = [each for step in steps for batch in step.micro_batches for each in batch]
    assert sorted(map(id, seen)) == sorted(id(each) for group in groups for each in group for _ in range(2))
    assert len({len(step.micro_batches) for step in steps}) == 1
    assert {sum(map(len, step.micro_batches)) for step in steps} == {6}
    assert plan_steps(groups, config) == steps
    assert plan_steps(groups, TrainingSection(completions_per_step=5, epochs=2, seed=1)) != steps


def test_7_on_policy_the_gradient_is_reinforce_with_leave_one_out(model: Any, tmp_path: Path) -> None:
    rows = rows_of(model)
    found = gradient(model, tmp_path, [rows])
    tokens = sum(each.row.actions for each in rows)
    model.zero_grad()
    for each in rows:
        ids = (torch.tensor(each.row.prompt_ids), torch.tensor(each.row.completion_ids))
        loss = -each.advantage * policy_logprobs(model, *ids).sum() / tokens
        loss.backward()  # type: ignore[no-untyped-call]
    assert_same(found, gradients_of(model))


@pytest.mark.parametrize("kind", ["dapo", "grpo", "dr_grpo", "cispo", "gspo"])
def test_8_trls_loss_is_the_reference(model: Any, tmp_path: Path, kind: str) -> None:
    rows = drifted_rows(model)
    level = "sequence" if kind == "gspo" else "token"
    cap = 5.0 if kind == "cispo" else 0.28
    found = gradient(
        model, tmp_path, [rows], loss_type="grpo" if kind == "gspo" else kind, importance_sampling_level=level,
        epsilon_high=cap, max_completion_length=256,
    )  # fmt: skip
    assert_same(found, reference_gradient(model, rows, kind, Clip(high=cap if kind == "cispo" else 1.28)))


def test_8_a_whole_step_through_the_loop_is_the_reference(model: Any, tmp_path: Path) -> None:
    """Dataloader, accumulation and optimizer included: plain SGD at rate 1 moves each weight by its gradient."""
    rows = drifted_rows(model)
    wanted = reference_gradient(model, rows, "dapo", Clip())
    before = {name: each.detach().clone() for name, each in model.named_parameters()}
    args = trl_arguments(TrainingSection(), 1, 3, tmp_path)
    args.optim, args.learning_rate, args.max_grad_norm = OptimizerNames.SGD, 1.0, 0.0
    batches = collate_steps([Step(tuple(tuple(rows[i::3]) for i in range(3)))])
    OfflineGRPOTrainer(model, tiny_tokenizer(), args, batches, DriftMeter(0.8, 1.28)).train()
    assert_same({name: before[name] - each.detach() for name, each in model.named_parameters()}, wanted)


def test_1_a_step_of_equal_rewards_moves_nothing(model: Any, tmp_path: Path) -> None:
    rows = [WeightedRow(each.row, 0.0) for each in drifted_rows(model)]
    assert not any(each.any() for each in gradient(model, tmp_path, [rows]).values())


def test_12_prompt_tokens_are_context_only(model: Any, tmp_path: Path) -> None:
    trainer = trainer_of(model, tmp_path)
    rows = drifted_rows(model)
    inputs = collate(rows, sum(each.row.actions for each in rows))
    hidden: list[Tensor] = []

    def keep(_module: Any, _given: Any, output: Tensor) -> None:
        output.retain_grad()
        hidden.append(output)

    handle = model.model.norm.register_forward_hook(keep)
    loss_of(trainer, inputs).backward()  # type: ignore[no-untyped-call]
    handle.remove()
    by_position = hidden[0].grad
    assert by_position is not None
    prompt = inputs["prompt_ids"].size(1)
    assert not by_position[:, : prompt - 1].any()  # its last position predicts the first completion token
    assert by_position[:, prompt - 1].abs().sum() > 0


def test_11_a_row_of_tool_tokens_only_counts_for_nothing(model: Any, tmp_path: Path) -> None:
    rows = drifted_rows(model)
    values = {name: getattr(rows[0].row, name) for name in rows[0].row.__slots__}
    silent = WeightedRow(Row(**(values | {"mask": (False,) * len(rows[0].row.mask)})), -1.0)
    assert_same(gradient(model, tmp_path, [[*rows, silent]]), gradient(model, tmp_path, [rows]))


def test_16_logprobs_at_a_temperature_are_those_of_scaled_logits(model: Any, tmp_path: Path) -> None:
    rows = rows_of(model)
    trainer = trainer_of(model, tmp_path, temperature=0.7)
    inputs = trainer._prepare_inputs(collate(rows, 1))
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
    mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
    found, _, _ = trainer._get_per_token_logps_and_entropies(model, ids, mask, inputs["completion_ids"].size(1))
    row = rows[0].row
    logits = model(input_ids=torch.tensor([[*row.prompt_ids, *row.completion_ids]])).logits[0]
    wanted = torch.log_softmax(logits[len(row.prompt_ids) - 1 : -1] / 0.7, -1)
    chosen = wanted[torch.arange(len(row.completion_ids)), torch.tensor(row.completion_ids)]
    assert torch.allclose(found[0, : len(chosen)], chosen, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.7, 1.4])
def test_16_rows_of_another_temperature_fail_the_identity_check(model: Any, temperature: float) -> None:
    own = [each.row for each in rows_of(model)]
    model.config.use_cache = False
    head = model.lm_head.forward
    model.lm_head.forward = lambda hidden: head(hidden) / temperature
    foreign = [each.row for each in rows_of(model)]
    model.lm_head.forward = head
    groups = [Group("a", 0.0, "own", True, tuple(own)), Group("b", 0.0, "foreign", True, tuple(foreign))]
    by_source = {each.source: each for each in check_identity(model, groups, {})}
    assert by_source["own"].kl < 1e-9
    assert by_source["foreign"].kl > 0.01
    assert by_source["foreign"].rows == 6  # every second of twelve
