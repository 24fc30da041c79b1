from itertools import product

import pytest
from msgspec.structs import replace

from router.enums import Stopped
from router.plan import Plan, Tally, majority_confidence, next_wave, stop_reason, vote_settled
from router.stopping import HARD

VOTE = Plan(minimum=1, maximum=5, oracle=False, quorum=0.9)
ORACLE = Plan(minimum=1, maximum=5, oracle=True, quorum=0.9)


@pytest.mark.parametrize(
    ("votes", "expected"),
    [((1, 0), 0.75), ((2, 0), 0.875), ((3, 0), 0.9375), ((4, 0), 0.96875), ((2, 1), 0.6875), ((3, 2), 0.65625)],
)
def test_majority_confidence_is_the_beta_tail(votes: tuple[int, int], expected: float) -> None:
    assert majority_confidence(*votes) == pytest.approx(expected)


def test_majority_confidence_agrees_with_numerical_integration() -> None:
    for first, second in product(range(6), repeat=2):
        steps = 20_000
        grid = [(i + 0.5) / steps for i in range(steps)]
        density = [x**first * (1 - x) ** second for x in grid]
        above = sum(value for x, value in zip(grid, density, strict=True) if x > 0.5) / sum(density)
        assert majority_confidence(first, second) == pytest.approx(above, abs=1e-4)


def test_three_unanimous_votes_settle_at_the_default_quorum_and_two_do_not() -> None:
    assert not vote_settled((2, 0), remaining=3, quorum=0.9)
    assert vote_settled((3, 0), remaining=2, quorum=0.9)


def test_a_lead_that_cannot_be_caught_settles() -> None:
    assert vote_settled((3, 1), remaining=1, quorum=0.99)
    assert not vote_settled((3, 2), remaining=1, quorum=0.99)


def test_a_tie_is_never_settled() -> None:
    assert not vote_settled((2, 2), remaining=0, quorum=0.51)


def test_the_first_pass_stops_an_oracle_group() -> None:
    assert stop_reason(ORACLE, Tally(spent=1, verified=True)) is Stopped.DECISIVE
    assert stop_reason(ORACLE, Tally(spent=4, votes=(4,))) is None
    assert stop_reason(ORACLE, Tally(spent=5)) is Stopped.CAP


def test_the_minimum_is_drawn_before_any_early_stop() -> None:
    plan = Plan(minimum=3, maximum=5, oracle=True, quorum=0.9)
    assert stop_reason(plan, Tally(spent=2, verified=True)) is None
    assert stop_reason(plan, Tally(spent=3, verified=True)) is Stopped.DECISIVE
    assert next_wave(plan, Tally()) == 3


def test_a_full_group_never_stops_early() -> None:
    plan = Plan(minimum=5, maximum=5, oracle=True, quorum=0.9, full=True)
    assert next_wave(plan, Tally()) == 5
    assert stop_reason(plan, Tally(spent=4, verified=True, votes=(4,))) is None
    assert stop_reason(plan, Tally(spent=5, verified=True)) is Stopped.CAP


def test_waves_of_an_oracle_group() -> None:
    assert [next_wave(ORACLE, Tally(spent=spent)) for spent in range(5)] == [1, 2, 1, 2, 1]
    hard = replace(ORACLE, belief=HARD)
    assert [next_wave(hard, Tally(spent=spent)) for spent in range(5)] == [2, 1, 3, 2, 1]


def test_waves_of_a_vote_are_no_larger_than_could_settle_it() -> None:
    assert next_wave(VOTE, Tally()) == 3
    assert next_wave(VOTE, Tally(spent=2, votes=(2,))) == 1
    assert next_wave(VOTE, Tally(spent=2, votes=(1, 1))) == 2
    assert next_wave(VOTE, Tally(spent=4, votes=(2, 2))) == 1
