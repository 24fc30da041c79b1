import asyncio

import pytest

from gateway.cache.single_flight import Shared, SingleFlight


class Work:
    """Counts its runs and ends when told to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.runs = self.cancelled = 0
        self.go = asyncio.Event()
        self._error = error

    async def __call__(self) -> int:
        self.runs += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self._error is not None:
            raise self._error
        return self.runs


def boarding(
    flights: SingleFlight[int], work: Work, count: int, key: bytes = b"k", patience_s: float = 10.0
) -> list[asyncio.Task[Shared[int] | None]]:
    return [asyncio.create_task(flights.join(key, work, patience_s)) for _ in range(count)]


async def test_all_who_ask_at_the_same_time_share_one_run() -> None:
    flights, work = SingleFlight[int](), Work()
    tasks = boarding(flights, work, 64)
    await asyncio.sleep(0)
    assert flights.flying(b"k") and not flights.flying(b"other")
    work.go.set()
    shared = await asyncio.gather(*tasks)
    assert work.runs == 1 and [each and each.value for each in shared] == [1] * 64
    assert [each.mine for each in shared if each] == [True] + [False] * 63
    assert not flights.flying(b"k")
    assert await flights.join(b"k", work, 10) == Shared(2, mine=True)


async def test_another_key_is_another_flight() -> None:
    flights, work = SingleFlight[int](), Work()
    work.go.set()
    await asyncio.gather(*boarding(flights, work, 3, b"a"), *boarding(flights, work, 3, b"b"))
    assert work.runs == 2


async def test_a_leader_that_leaves_takes_nothing_with_it() -> None:
    flights, work = SingleFlight[int](), Work()
    leader, *others = boarding(flights, work, 3)
    await asyncio.sleep(0)
    leader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leader
    work.go.set()
    assert await asyncio.gather(*others) == [Shared(1, mine=True), Shared(1, mine=False)]
    assert (work.runs, work.cancelled) == (1, 0)


async def test_the_last_to_leave_ends_it_and_nobody_boards_what_is_ending() -> None:
    flights, work = SingleFlight[int](), Work()
    tasks = boarding(flights, work, 3)
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.sleep(0)
    late = boarding(flights, work, 1)
    work.go.set()
    assert all(
        isinstance(each, asyncio.CancelledError) for each in await asyncio.gather(*tasks, return_exceptions=True)
    )
    assert await late[0] == Shared(2, mine=True)
    assert (work.runs, work.cancelled) == (2, 1)


async def test_an_error_reaches_this_flights_passengers_alone() -> None:
    flights, failing, sound = SingleFlight[int](), Work(ValueError("this flight")), Work()
    tasks = boarding(flights, failing, 3)
    await asyncio.sleep(0)
    failing.go.set()
    assert [str(each) for each in await asyncio.gather(*tasks, return_exceptions=True)] == ["this flight"] * 3
    sound.go.set()
    assert await flights.join(b"k", sound, 10) == Shared(1, mine=True)


async def test_patience_ends_for_those_who_joined_not_for_the_leader() -> None:
    flights, work = SingleFlight[int](), Work()
    leader, follower = boarding(flights, work, 2, patience_s=0.01)
    assert await follower is None
    work.go.set()
    assert await leader == Shared(1, mine=True)
