import random

import pytest

from router.calibration.target import Prospect, reaching
from router.stopping import PassRate, worthwhile

PROSPECTS = [
    Prospect(PassRate.of(rng.uniform(0.05, 0.95), rng.uniform(0.5, 8.0)), rng.uniform(20.0, 200.0))
    for rng in [random.Random(0)]
    for _ in range(200)
]


def expected(value: float) -> float:
    """Share solved by the plan of serving at this value of a solved task."""
    solved = 0.0
    for each in PROSPECTS:
        drawn = worthwhile(each.belief, 5, value / each.price)
        solved += 1.0 - each.belief.survival(drawn)[drawn]
    return solved / len(PROSPECTS)


@pytest.mark.parametrize("solve_rate", [0.55, 0.65, 0.72])
def test_the_plan_at_the_found_value_reaches_the_target_and_below_it_does_not(solve_rate: float) -> None:
    found = reaching(solve_rate, PROSPECTS, 5)
    assert found.value is not None and found.reached >= solve_rate
    assert expected(found.value) == pytest.approx(found.reached)
    assert expected(found.value * 0.999999) < solve_rate


def test_what_one_sample_reaches_costs_nothing_more() -> None:
    found = reaching(0.1, PROSPECTS, 5)
    assert (found.value, found.reached) == (0.0, pytest.approx(expected(0.0)))


def test_what_full_groups_do_not_reach_has_no_price() -> None:
    found = reaching(0.999, PROSPECTS, 5)
    assert found.value is None and found.reached == pytest.approx(expected(1e12))


def test_without_prompts_there_is_no_target() -> None:
    with pytest.raises(ValueError, match="needs prompts"):
        reaching(0.5, [], 5)
