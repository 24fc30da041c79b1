"""Which groups train: the newest, or a mix by difficulty; and that choosing by it turns no prompt's gradient."""

from __future__ import annotations

import math
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.enums import Stopped
from router.settings import Mode
from tests.support.training_log import trained_group, write_log
from training.advantage import leave_one_out
from training.curriculum import Choice
from training.dataset import Accepts, read_dataset
from training.groups import Difficulty, Group, group_of
from training.rows import ModelLimits

LIMITS = ModelLimits(vocab_size=100, max_length=16)
RATES = {Difficulty.HARD: 0.2, Difficulty.MIDDLE: 0.5, Difficulty.EASY: 0.8, Difficulty.UNMEASURED: None}


def one(number: int, difficulty: Difficulty) -> Group:
    return Group(f"g{number}", float(number), "engine 1", True, (), pass_rate=RATES[difficulty])


def chosen(choice: Choice, groups: list[Group]) -> list[int]:
    for group in groups:
        choice.offer(group)
    return [int(group.created_at) for group in choice.taken()]


@given(st.permutations(range(12)), st.integers(1, 15))
def test_without_a_curriculum_the_newest_are_taken_in_the_order_they_were_made(order: list[int], most: int) -> None:
    kinds = list(Difficulty)
    groups = [one(number, kinds[number % 4]) for number in order]
    assert chosen(Choice(most), groups) == list(range(max(0, 12 - most), 12))


@given(st.lists(st.sampled_from(Difficulty), max_size=60), st.integers(1, 40))
def test_a_curriculum_fills_its_shares_and_wastes_no_place(kinds: list[Difficulty], most: int) -> None:
    groups = [one(number, kind) for number, kind in enumerate(kinds)]
    taken = chosen(Choice(most, curriculum=True), groups)
    assert taken == sorted(set(taken)) and len(taken) == min(most, len(kinds))
    found, offered = Counter(kinds[number] for number in taken), Counter(kinds)
    middle = (Difficulty.MIDDLE, Difficulty.UNMEASURED)
    for end in (Difficulty.HARD, Difficulty.EASY):
        assert found[end] >= min(offered[end], int(0.15 * most))
        if found[end] > int(0.15 * most):  # only where the middle has no more
            assert all(found[each] == offered[each] for each in middle)
        newest = [number for number, kind in enumerate(kinds) if kind is end]
        assert [number for number in taken if kinds[number] is end] == newest[len(newest) - found[end] :]


def test_a_log_of_easy_prompts_does_not_crowd_the_others_out(tmp_path: Path) -> None:
    rewards = [(1.0, 0.0), *[(1.0, 1.0, 1.0, 1.0, 0.0)] * 18, (0.0, 0.0, 0.0, 0.0, 1.0)]
    write_log(tmp_path, [trained_group(f"g{n}", each, created_at=float(n)) for n, each in enumerate(rewards)])
    accepts = Accepts(None, None, None, LIMITS)
    newest = read_dataset(tmp_path, accepts, Choice(10)).counts
    assert newest.difficulty == {"easy": 9, "hard": 1} and newest.dropped_groups == {"over_limit": 10}
    mixed = read_dataset(tmp_path, accepts, Choice(10, curriculum=True))
    assert mixed.counts.difficulty == {"easy": 8, "hard": 1, "middle": 1} and mixed.groups[0].group_id == "g0"


@pytest.mark.parametrize(
    ("fields", "rate"),
    [
        ({}, 0.75),
        ({"calibrated": 5.0, "difficulty": 0.9}, 0.75),  # what was measured of it goes before the estimate
        ({"audit": False, "stopped": Stopped.DECISIVE}, None),
        ({"audit": False, "stopped": Stopped.DECISIVE, "difficulty": 0.9}, None),  # the heuristic measures nothing
        ({"audit": False, "stopped": Stopped.DECISIVE, "difficulty": 0.9, "calibrated": 5.0}, 0.1),
    ],
)
def test_a_group_that_could_end_early_is_not_measured_by_its_own_end(
    fields: dict[str, Any], rate: float | None
) -> None:
    record = trained_group("g", (1.0, 1.0, None, 0.0, 1.0), **fields)
    found = group_of(record, Mode.GRPO, LIMITS, Counter()).pass_rate
    assert found == pytest.approx(rate) if rate is not None else found is None


@pytest.mark.parametrize("size", [2, 3, 5])
def test_whatever_number_of_a_group_passed_its_gradient_points_the_same_way(size: int) -> None:
    """Three answers, the first one right: the leave-one-out gradient expected given the passes, enumerated."""
    policy = (0.3, 0.5, 0.2)
    true = [policy[0] * ((answer == 0) - p) for answer, p in enumerate(policy)]
    given_passes: dict[int, list[float]] = {}
    for draws in product(range(3), repeat=size):
        chance = math.prod(policy[draw] for draw in draws)
        advantages = leave_one_out([float(draw == 0) for draw in draws])
        total = given_passes.setdefault(draws.count(0), [0.0, 0.0, 0.0])
        for answer, p in enumerate(policy):
            pairs = zip(draws, advantages, strict=True)
            total[answer] += chance * math.fsum(each * ((draw == answer) - p) for draw, each in pairs)
    for passes in range(1, size):
        ratio = given_passes[passes][0] / true[0]
        assert ratio > 0
        assert given_passes[passes] == pytest.approx([ratio * each for each in true])
