"""Reward shaping moves the advantage alone: the outcome of a row, and what is reported of it, stay as they were."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.settings import TrainingSection
from training.groups import Group
from training.rows import Row
from training.shaping import Earned, earned, shaped_rewards, soft_overlong, terms


def group(*rows: tuple[float, dict[str, Any]]) -> Group:
    made = [
        Row(i, (1,), (2, 3), (-1.0, -1.0), (True, True), reward, False, **of) for i, (reward, of) in enumerate(rows)
    ]
    return Group("g", 0.0, "engine 1", True, tuple(made))


@pytest.mark.parametrize(("tokens", "penalty"), [(0, 0), (6, 0), (7, -0.25), (9, -0.75), (10, -1), (99, -1)])
def test_the_length_penalty_is_the_soft_overlong_one_of_dapo(tokens: int, penalty: float) -> None:
    assert soft_overlong(tokens, limit=10, margin=4) == penalty


@given(st.integers(0, 5000), st.integers(2, 2000), st.integers(1, 500))
def test_the_length_penalty_never_rewards_and_never_falls_as_a_completion_grows(
    n: int, limit: int, margin: int
) -> None:
    assert -1 <= soft_overlong(n + 1, limit, margin) <= soft_overlong(n, limit, margin) <= 0


def test_without_weights_the_reward_is_the_outcome() -> None:
    assert terms(TrainingSection()) == {}
    assert shaped_rewards(group((1.0, {"format_score": 0.0}), (0.5, {})), terms(TrainingSection())) == [1.0, 0.5]


def test_the_terms_are_weighted_and_reported_apart() -> None:
    scored = group(
        (1.0, {"format_score": 0.0, "process_score": 0.5}), (0.0, {"format_score": 1.0, "process_score": 1.0})
    )
    shaping = terms(
        TrainingSection(format_weight=0.1, process_weight=0.2, length_weight=1.0, length_limit=4, length_margin=4)
    )
    assert shaped_rewards(scored, shaping) == pytest.approx([1.0 + 0.1 - 0.5, 0.1 + 0.2 - 0.5])
    assert [row.reward for row in scored.rows] == [1.0, 0.0]
    assert earned([scored], shaping) == {
        "length": Earned(1.0, -0.5, 2), "format": Earned(0.1, 0.5, 2), "process": Earned(0.2, 0.75, 2),
    }  # fmt: skip


def test_a_term_that_is_unknown_for_one_row_is_left_out_for_its_group() -> None:
    half = group((1.0, {"format_score": 1.0}), (0.0, {}))
    shaping = terms(TrainingSection(format_weight=0.5))
    assert shaped_rewards(half, shaping) == [1.0, 0.0]
    assert earned([half], shaping) == {"format": Earned(0.5, None, 0)}
