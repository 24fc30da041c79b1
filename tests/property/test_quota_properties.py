"""GCRA against a model that keeps the whole history; accounts that add up whatever order things happen in."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.adapters.memory_quota import MemoryQuota
from gateway.tenants.quota import DAY_US, Amount, Denial, Lease, Limits, gcra

GAPS = st.lists(st.integers(0, 5_000), min_size=1, max_size=80)


class LeakyBucket:
    """The continuous-state leaky bucket, GCRA's equal by I.371: a level that drains one unit a microsecond."""

    def __init__(self, interval: int, burst: int) -> None:
        self._interval, self._limit = interval, interval * (burst - 1)
        self._level = self._last = 0

    def takes(self, now: int) -> bool:
        drained = max(self._level - (now - self._last), 0)
        if drained > self._limit:
            return False
        self._level, self._last = drained + self._interval, now
        return True


@settings(deadline=None)
@given(GAPS, st.integers(1, 2_000), st.integers(1, 10))
def test_gcra_is_the_leaky_bucket(gaps: list[int], interval: int, burst: int) -> None:
    bucket, tat, now = LeakyBucket(interval, burst), 0, 1_000_000
    for gap in gaps:
        now += gap
        tat, wait = gcra(tat, now, interval, burst)
        assert (wait == 0) == bucket.takes(now)


@settings(deadline=None)
@given(GAPS, st.integers(1, 2_000), st.integers(1, 10))
def test_no_window_holds_more_than_its_share_and_waiting_as_told_is_enough(
    gaps: list[int], interval: int, burst: int
) -> None:
    tat, now, admitted = 0, 1_000_000, []
    for gap in gaps:
        now += gap
        after, wait = gcra(tat, now, interval, burst)
        if wait:
            assert after == tat  # a refusal changes nothing
            assert gcra(tat, now + wait, interval, burst)[1] == 0
            assert wait == 1 or gcra(tat, now + wait - 1, interval, burst)[1] == 1
        else:
            admitted.append(now)
        tat = after
    for i, start in enumerate(admitted):
        for count, end in enumerate(admitted[i:], 1):
            assert count <= burst + (end - start) // interval


class Clock:
    def __init__(self, at: float) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("reserve"), st.integers(0, 400), st.integers(0, 400)),
        st.tuples(st.just("settle"), st.integers(0, 20), st.integers(0, 500)),
        st.tuples(st.just("wait"), st.integers(0, 200), st.just(0)),
        st.tuples(st.just("midnight"), st.just(0), st.just(0)),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(STEPS, st.integers(1, 1000), st.integers(1, 5))
def test_accounts_add_up(steps: list[tuple[str, int, int]], budget: int, places: int) -> None:
    asyncio.run(_add_up(steps, budget, places))


async def _add_up(steps: list[tuple[str, int, int]], budget: int, places: int) -> None:
    """Against books kept in full: today's spending is what is settled plus what is still reserved, never negative."""
    clock = Clock(20_000 * 86_400 + 5.0)
    quota, limits = MemoryQuota(clock), Limits(tokens_per_day=budget, max_concurrency=places)
    lease_s = 300.0
    booked: dict[Lease, int] = {}
    ends: dict[Lease, float] = {}  # when the place of an unsettled one comes free
    for what, first, second in steps:
        today = int(clock.at * 1_000_000) // DAY_US
        if what == "wait":
            clock.at += first
        elif what == "midnight":
            clock.at = (today + 1) * 86_400.0
        elif what == "settle" and booked:
            lease = [*booked][first % len(booked)]
            await quota.settle(lease, Amount(second))
            if ends.pop(lease, None) is not None:
                booked[lease] = second
        elif what == "reserve":
            ends = {lease: end for lease, end in ends.items() if end > clock.at}
            spent = sum(tokens for lease, tokens in booked.items() if lease.day == today)
            decision = await quota.reserve("t", limits, Amount(first), lease_s)
            if len(ends) >= places:
                assert decision.denial is Denial.CONCURRENCY
            elif spent + first > budget:
                assert decision.denial is Denial.TOKENS
            else:
                assert decision.lease is not None
                booked[decision.lease], ends[decision.lease] = first, clock.at + lease_s
                spent += first
            assert decision.tokens_left == max(budget - spent, 0)
