"""Advantages: properties 4 to 6 and 14 of the offline objective, checked by exact enumeration where there is one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.tiny_policy import weighed
from training.advantage import leave_one_out, predictable
from training.groups import Group
from training.rows import Row

REWARDS = st.lists(st.floats(0, 1), min_size=2, max_size=5)
CAP = 5


def row(index: int, reward: float, truncated: bool = False) -> Row:
    return Row(index, (1,), (2, 3), (-1.0, -1.0), (True, True), reward, truncated)


def group(rewards: Sequence[float], *, fixed: bool = True) -> Group:
    return Group("g", 0.0, "engine 1", fixed, tuple(row(i, reward) for i, reward in enumerate(rewards)))


@given(st.permutations(range(5)), st.lists(st.floats(0, 1), min_size=5, max_size=5))
def test_4_permuting_completions_permutes_advantages(order: list[int], rewards: list[float]) -> None:
    permuted = leave_one_out([rewards[i] for i in order])
    assert permuted == pytest.approx([leave_one_out(rewards)[i] for i in order], abs=1e-12)


@given(REWARDS, st.floats(-3, 3), st.floats(-3, 3))
def test_5_advantages_sum_to_zero_ignore_a_shift_and_follow_a_scale(
    rewards: list[float], shift: float, scale: float
) -> None:
    plain = leave_one_out(rewards)
    assert math.fsum(plain) == pytest.approx(0, abs=1e-9)
    assert leave_one_out([r + shift for r in rewards]) == pytest.approx(plain, abs=1e-9)
    assert leave_one_out([r * scale for r in rewards]) == pytest.approx([a * scale for a in plain], abs=1e-9)


@pytest.mark.parametrize("rewards", [[], [1.0]])
def test_6_leave_one_out_refuses_fewer_than_two(rewards: list[float]) -> None:
    with pytest.raises(ValueError, match="at least two"):
        leave_one_out(rewards)


@given(REWARDS, st.floats(0, 1), st.integers(0, 4), st.floats(0, 1))
def test_6_a_predictable_baseline_never_looks_ahead(
    rewards: list[float], expected: float, at: int, other: float
) -> None:
    changed = [other if i == min(at, len(rewards) - 1) else r for i, r in enumerate(rewards)]
    before = min(at, len(rewards) - 1)
    assert predictable(rewards, expected)[:before] == predictable(changed, expected)[:before]
    assert predictable(rewards[:1], expected) == [rewards[0] - expected]


def test_an_early_stopped_group_is_weighed_against_the_other_groups() -> None:
    groups = [group([1.0], fixed=False), group([0.0, 1.0], fixed=False), group([1.0, 0.0])]
    advantages = [[each.advantage for each in rows] for rows in weighed(groups)]
    assert advantages[0] == [1.0 - 0.5]  # the others began with 0 and 1
    assert advantages[1] == [0.0 - 1.0, 1.0 - 0.5]  # the others began with 1 and 1
    assert advantages[2] == [1.0, -1.0]
    assert weighed([group([1.0], fixed=False)])[0][0].advantage == 0.5


def test_a_truncated_row_counts_for_the_baseline_and_is_left_out_of_the_loss() -> None:
    rows = (row(0, 1.0), row(1, 0.0, truncated=True), row(2, 0.5))
    weighted = weighed([Group("g", 0.0, "engine 1", True, rows)])[0]
    assert [(each.row.index, each.advantage) for each in weighted] == [(0, 0.75), (2, 0.0)]


# --- 14: the table of section 6, by enumeration over a Bernoulli policy of one parameter -------------------------

Stop = Callable[[Sequence[int]], bool]


def first_success(seen: Sequence[int]) -> bool:
    return seen[-1] == 1


def two_agree(seen: Sequence[int]) -> bool:
    return max(seen.count(0), seen.count(1)) >= 2


def two_successes(seen: Sequence[int]) -> bool:
    return seen.count(1) >= 2


def outcomes(p: float, stop: Stop, cap: int = CAP) -> Iterator[tuple[float, list[int]]]:
    """Every group that the rule can end with, and its probability."""
    for draws in product((0, 1), repeat=cap):
        size = next((n for n in range(1, cap) if stop(draws[:n])), cap)
        if any(draws[size:]):
            continue  # what was not drawn: counted once
        seen = list(draws[:size])
        yield math.prod(p if draw else 1 - p for draw in seen), seen


def contribution(p: float, seen: list[int], advantages: Callable[[list[float]], list[float]]) -> float:
    """The group's sum of advantage times d log pi, which is `draw - p`, over the true gradient p(1-p)."""
    pairs = zip(advantages([float(draw) for draw in seen]), seen, strict=True)
    return math.fsum(advantage * (draw - p) for advantage, draw in pairs) / (p * (1 - p))


@pytest.mark.parametrize("p", [0.2, 0.5, 0.8])
def test_14_leave_one_out_is_unbiased_for_a_fixed_size(p: float) -> None:
    groups = outcomes(p, lambda _: False, cap=4)
    assert math.fsum(q * contribution(p, seen, leave_one_out) / 4 for q, seen in groups) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("stop", [first_success, two_agree, two_successes])
@pytest.mark.parametrize("p", [0.2, 0.5, 0.8])
def test_14_a_predictable_baseline_is_unbiased_under_every_stop_rule(stop: Stop, p: float) -> None:
    groups = list(outcomes(p, stop))
    estimate = math.fsum(q * contribution(p, seen, lambda rewards: predictable(rewards, 0.3)) for q, seen in groups)
    assert estimate / math.fsum(q * len(seen) for q, seen in groups) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("stop", "p", "ratio"),
    [
        (first_success, 0.2, 1.03), (first_success, 0.5, 0.75), (first_success, 0.8, 0.58),
        (two_agree, 0.2, 0.67), (two_agree, 0.5, 0.67), (two_agree, 0.8, 0.67),
        (two_successes, 0.2, 0.96), (two_successes, 0.5, 0.86), (two_successes, 0.8, 0.74),
    ],
)  # fmt: skip
def test_14_the_group_mean_is_biased_where_a_group_was_stopped(stop: Stop, p: float, ratio: float) -> None:
    groups = [(q, seen) for q, seen in outcomes(p, stop) if len(seen) > 1]
    estimate = math.fsum(q * contribution(p, seen, leave_one_out) / len(seen) for q, seen in groups)
    assert estimate == pytest.approx(ratio, abs=0.005)
