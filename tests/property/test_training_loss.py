"""The loss that TRL computes from our inputs, on given log-probabilities: properties 1, 8 to 11, 15, 19 and 20."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from router.settings import TrainingSection
from tests.support.reference_loss import Clip, token_losses
from tests.support.tiny_policy import loss_of, tiny_model, tiny_tokenizer
from training.collate import Inputs
from training.drift import DriftMeter, k3
from training.seam import OfflineGRPOTrainer, trl_arguments

CLIP = Clip()
FAR = 10.0  # an off-policy limit that no row here reaches


class GivenLogprobs(OfflineGRPOTrainer):
    """The trainer with the model's log-probabilities put in by hand."""

    given: Tensor

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Any, Any]:
        return self.given, torch.zeros_like(self.given), None


@dataclass(frozen=True)
class Losses:
    """Loss of one step and its gradient by log-probability."""

    loss: float
    gradient: Tensor


@dataclass(frozen=True)
class Bench:
    trainer: GivenLogprobs

    def __call__(self, log_ratio: list[list[float]], advantages: list[list[float]], **inputs: Any) -> Losses:
        """Rows of log r, advantages by token (or one a row); the loss is a mean over the step's tokens."""
        logged = torch.full_like(torch.tensor(log_ratio), -1.0)
        leaf = (logged + torch.tensor(log_ratio)).requires_grad_()
        ones = torch.ones(leaf.shape, dtype=torch.long)
        mask = inputs.pop("tool_mask", ones)
        batch: Inputs = {
            "prompt_ids": ones[:, :1], "prompt_mask": ones[:, :1], "completion_ids": ones, "completion_mask": ones,
            "tool_mask": mask, "old_per_token_logps": logged, "advantages": torch.tensor(advantages).expand_as(leaf),
            "num_items_in_batch": mask.sum(),
        } | inputs  # fmt: skip
        self.trainer.given = leaf
        loss = loss_of(self.trainer, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        assert leaf.grad is not None
        return Losses(loss.item(), leaf.grad)


def bench(tmp: Path, **arguments: Any) -> Bench:
    args = trl_arguments(TrainingSection(off_policy_nats=FAR), 1, 1, tmp)
    for name, value in arguments.items():
        assert hasattr(args, name)
        setattr(args, name, value)
    trainer = GivenLogprobs(tiny_model(), tiny_tokenizer(), args, [], DriftMeter(CLIP.low, CLIP.high))
    trainer.current_gradient_accumulation_steps = 1
    return Bench(trainer)


@pytest.fixture(scope="module")
def default(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return bench(tmp_path_factory.mktemp("default"))


@pytest.fixture(scope="module")
def masking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    yield bench(tmp_path_factory.mktemp("masking"), off_policy_mask_threshold=0.5)


def test_1_zero_advantages_give_exactly_no_gradient(default: Bench) -> None:
    found = default([[0.3, -0.7], [0.0, 1.0]], [[0.0], [0.0]])
    assert found.loss == 0
    assert not found.gradient.any()


# verl's `compute_policy_loss_vanilla` by hand: max(-A r, -A clip(r)), and min(-A c, that) where A < 0; c = 4.
VERL = [
    (1.0, 1.0, -1.0), (1.0, -1.0, 1.0), (1.5, 1.0, -1.28), (0.5, 1.0, -0.5), (0.5, -1.0, 0.8), (1.5, -1.0, 1.5),
    (6.0, -1.0, 4.0), (6.0, 1.0, -1.28), (3.9, -2.0, 7.8), (0.9, -0.5, 0.45), (1.2, 0.25, -0.3),
]  # fmt: skip


@pytest.mark.parametrize(("ratio", "advantage", "loss"), VERL)
def test_8_a_token_costs_what_verls_formula_says(default: Bench, ratio: float, advantage: float, loss: float) -> None:
    assert default([[math.log(ratio)]], [[advantage]]).loss == pytest.approx(loss, rel=1e-5)
    reference = token_losses(torch.tensor(math.log(ratio)), torch.tensor(0.0), torch.tensor(advantage), CLIP)
    assert reference.item() == pytest.approx(loss, rel=1e-5)


# Two rows of 3 and 1 tokens whose token losses are -1, -1, -1 and +1; verl's `agg_loss` of each mode by hand.
@pytest.mark.parametrize(
    ("loss_type", "loss"),
    [
        ("dapo", (-3 + 1) / 4),  # token-mean
        ("grpo", (-1 + 1) / 2),  # seq-mean-token-mean
        ("dr_grpo", (-3 + 1) / (2 * 8)),  # seq-mean-token-sum-norm, over 8 tokens
    ],
)
def test_8_a_step_is_averaged_as_verl_does(tmp_path: Path, loss_type: str, loss: float) -> None:
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    found = bench(tmp_path, loss_type=loss_type, max_completion_length=8)(
        [[0.0] * 3] * 2, [[1.0], [-1.0]], tool_mask=mask
    )
    assert found.loss == pytest.approx(loss, abs=1e-6)


@pytest.mark.parametrize(
    ("ratio", "advantage", "moves"),
    [
        (1.29, 1.0, False), (1.27, 1.0, True), (0.5, 1.0, True),
        (0.79, -1.0, False), (0.81, -1.0, True), (1.5, -1.0, True), (3.9, -1.0, True), (4.1, -1.0, False),
    ],
)  # fmt: skip
def test_9_a_clipped_token_has_no_gradient(default: Bench, ratio: float, advantage: float, moves: bool) -> None:
    gradient = default([[math.log(ratio)]], [[advantage]]).gradient.item()
    assert gradient == pytest.approx(-advantage * ratio if moves else 0.0, rel=1e-4, abs=1e-12)


def test_10_a_weight_folds_into_the_advantage(default: Bench) -> None:
    log_ratio, weights = [[0.1, -0.4, 0.6]], [0.5, 2.0, 0.0]
    plain = default(log_ratio, [[-1.0, 1.0, 1.0]]).gradient
    folded = default(log_ratio, [[-1.0 * 0.5, 1.0 * 2.0, 0.0]]).gradient
    assert torch.allclose(folded, plain * torch.tensor(weights), atol=1e-7)


def test_11_a_masked_row_has_no_gradient_and_is_not_in_the_mean(default: Bench) -> None:
    alone = default([[0.1, 0.2]], [[1.0]])
    mask = torch.tensor([[1, 1], [0, 0]])
    beside = default([[0.1, 0.2], [0.3, -0.9]], [[1.0], [-1.0]], tool_mask=mask)
    assert beside.loss == pytest.approx(alone.loss, abs=1e-7)
    assert torch.equal(beside.gradient[0], alone.gradient[0])
    assert not beside.gradient[1].any()


def test_11_a_masked_token_has_no_gradient_and_is_not_in_the_mean(default: Bench) -> None:
    found = default([[0.0, 0.0, 0.0]], [[1.0]], tool_mask=torch.tensor([[1, 0, 1]]))
    assert found.gradient.tolist() == [[-0.5, 0.0, -0.5]]


@given(st.floats(-30, 30))
def test_15_k3_is_never_negative_and_zero_at_equality(log_ratio: float) -> None:
    assert k3(torch.tensor(log_ratio, dtype=torch.float64)) >= 0
    assert k3(torch.tensor(0.0)) == 0
    assert math.isfinite(k3(torch.tensor(log_ratio * 1e3)))


@given(st.lists(st.tuples(st.floats(-3, 3), st.floats(-3, 3)), min_size=2, max_size=6))
def test_15_the_mean_of_k3_is_the_exact_kl(logits: list[tuple[float, float]]) -> None:
    logged = torch.tensor([a for a, _ in logits], dtype=torch.float64).log_softmax(0)
    policy = torch.tensor([b for _, b in logits], dtype=torch.float64).log_softmax(0)
    exact = (logged.exp() * (logged - policy)).sum()
    assert (logged.exp() * k3(policy - logged)).sum() == pytest.approx(exact.item(), abs=1e-9)


def test_19_decoupled_mode_with_the_logged_policy_as_old_is_two_policy_mode(masking: Bench) -> None:
    log_ratio, advantages = [[0.3, -0.2], [-0.9, -0.8]], [[1.0], [-1.0]]
    two = masking(log_ratio, advantages)
    decoupled = masking(log_ratio, advantages, sampling_per_token_logps=torch.full((2, 2), -1.0))
    assert decoupled.loss == two.loss
    assert torch.equal(decoupled.gradient, two.gradient)


@pytest.mark.parametrize(
    ("log_ratio", "advantage", "kept"),
    [(-0.51, -1.0, False), (-0.49, -1.0, True), (-0.51, 1.0, True), (2.0, -1.0, True), (-0.51, 0.0, True)],
)
def test_20_only_bad_rows_that_fell_far_are_left_out(
    masking: Bench, default: Bench, log_ratio: float, advantage: float, kept: bool
) -> None:
    # The second token keeps a gradient under the clip, its mean with the first is `log_ratio`.
    rows, advantages = [[2 * log_ratio, 0.0], [0.0, 0.0]], [[advantage], [1.0]]
    masked, plain = masking(rows, advantages).gradient, default(rows, advantages).gradient
    assert torch.equal(masked[1], plain[1])  # still in the mean
    assert torch.equal(masked[0], plain[0]) is kept or advantage == 0
    assert bool(masked[0].any()) is (kept and advantage != 0)


def test_the_meter_counts_what_the_loss_sees() -> None:
    meter = DriftMeter(0.8, 1.28)
    ratios = torch.tensor([[0.5, 2.0, 1.0], [0.5, 2.0, 9.0]])
    inputs: Inputs = {
        "completion_mask": torch.ones(2, 3), "tool_mask": torch.tensor([[1, 1, 1], [1, 1, 0]]),
        "old_per_token_logps": torch.zeros(2, 3), "advantages": torch.tensor([[1.0], [-1.0]]).repeat(1, 3),
    }  # fmt: skip
    meter.add(ratios.log(), inputs)
    drift = meter.take()
    seen = [0.5, 2.0, 1.0, 0.5, 2.0]
    assert drift.tokens == 5
    assert drift.kl == pytest.approx(sum(r - 1 - math.log(r) for r in seen) / 5, rel=1e-6)
    assert drift.clip_fraction == pytest.approx(2 / 5)  # 2.0 of the good row, 0.5 of the bad one
    assert drift.ess == pytest.approx(sum(seen) ** 2 / (5 * sum(r * r for r in seen)), rel=1e-6)
    assert meter.take().tokens == 0
