import pytest

from gateway.resilience.breaker import Breaker, BreakerState


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def opened(clock: Clock) -> tuple[Breaker, list[BreakerState]]:
    seen: list[BreakerState] = []
    breaker = Breaker(clock=clock, on_change=seen.append)
    for _ in range(5):
        assert breaker.admits()
        breaker.failed()
    return breaker, seen


def test_five_failures_in_ten_seconds_open_it(clock: Clock) -> None:
    breaker, seen = opened(clock)
    assert breaker.state is BreakerState.OPEN and seen == [BreakerState.OPEN]
    assert not breaker.admits()


def test_four_failures_do_not_and_successes_between_do_not_hide_five(clock: Clock) -> None:
    breaker = Breaker(clock=clock)
    for _ in range(4):
        breaker.failed()
        breaker.succeeded()
    assert breaker.admits()
    breaker.failed()
    assert not breaker.admits()


def test_failures_far_apart_do_not_open_it(clock: Clock) -> None:
    breaker = Breaker(clock=clock)
    for _ in range(50):
        breaker.failed()
        clock.now += 2.6
    assert breaker.state is BreakerState.CLOSED


def test_open_it_admits_one_probe_every_five_seconds(clock: Clock) -> None:
    breaker, seen = opened(clock)
    for _ in range(3):
        clock.now += 4.9
        assert not breaker.admits()
        clock.now += 0.2
        assert [breaker.admits() for _ in range(10)] == [True] + [False] * 9
        breaker.failed()
    assert seen == [BreakerState.OPEN] + [BreakerState.HALF_OPEN, BreakerState.OPEN] * 3


def test_a_probe_that_succeeds_closes_it_and_it_starts_anew(clock: Clock) -> None:
    breaker, seen = opened(clock)
    clock.now += 5
    assert breaker.admits()
    breaker.succeeded()
    assert seen == [BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.CLOSED]
    for _ in range(4):
        breaker.failed()
    assert breaker.admits()


def test_a_probe_nobody_reports_on_is_followed_by_another(clock: Clock) -> None:
    breaker, _ = opened(clock)
    clock.now += 5
    assert breaker.admits() and not breaker.admits()
    clock.now += 5
    assert breaker.admits()
    breaker.succeeded()
    assert breaker.state is BreakerState.CLOSED


def test_what_was_under_way_when_it_opened_does_not_count(clock: Clock) -> None:
    breaker, seen = opened(clock)
    breaker.succeeded()
    for _ in range(50):
        breaker.failed()
    assert seen == [BreakerState.OPEN]
    clock.now += 5
    assert breaker.admits()  # the late failures did not put the probe off


def test_consecutive_failures_are_counted_from_the_last_success(clock: Clock) -> None:
    breaker = Breaker(clock=clock, consecutive=True)
    for _ in range(4):
        breaker.failed()
    breaker.succeeded()
    for _ in range(4):
        breaker.failed()
    assert breaker.admits()
    breaker.failed()
    assert not breaker.admits()
