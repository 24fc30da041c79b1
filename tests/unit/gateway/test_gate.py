"""Who goes in, in which order, and what a full queue does."""

import asyncio

import pytest

from gateway.tenants.gate import FairGate
from router.errors import Overloaded


class Crowd:
    """Requests at a gate, by name; `inside` keeps the order in which they went in."""

    def __init__(self, max_inflight: int = 1, max_queued: int = 100) -> None:
        self.queued: list[int] = []
        self.gate = FairGate(max_inflight, max_queued, self.queued.append)
        self.inside: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, *names: str) -> None:
        """The tenant is the first letter."""
        for name in names:
            self.tasks[name] = asyncio.create_task(self._enter(name))
            await asyncio.sleep(0)

    async def _enter(self, name: str) -> None:
        if not self.gate.try_enter():
            await self.gate.wait(name[0])
        self.inside.append(name)

    async def leave(self, times: int = 1) -> None:
        for _ in range(times):
            self.gate.leave()
            await asyncio.sleep(0)
            await asyncio.sleep(0)


async def test_whoever_finds_room_goes_in_at_once() -> None:
    crowd = Crowd(max_inflight=2)
    await crowd.come("a1", "a2", "a3")
    assert crowd.inside == ["a1", "a2"] and crowd.queued == [1]
    await crowd.leave()
    assert crowd.inside == ["a1", "a2", "a3"] and crowd.queued == [1, 0]
    await crowd.leave(2)
    assert crowd.gate.try_enter() and crowd.gate.try_enter() and not crowd.gate.try_enter()


async def test_tenants_take_turns_and_each_keeps_its_order() -> None:
    crowd = Crowd()
    await crowd.come("x", "a1", "a2", "a3", "a4", "b1", "b2", "c1")
    await crowd.leave(7)
    assert crowd.inside == ["x", "a1", "b1", "c1", "a2", "b2", "a3", "a4"]


async def test_a_heavy_tenant_delays_a_light_one_by_one_request() -> None:
    crowd = Crowd()
    await crowd.come("x", *(f"a{i}" for i in range(50)), "b1")
    await crowd.leave(2)
    assert "b1" in crowd.inside


async def test_a_request_that_leaves_the_queue_is_forgotten() -> None:
    crowd = Crowd()
    await crowd.come("x", "a1", "a2", "b1")
    crowd.tasks["a1"].cancel()
    crowd.tasks["b1"].cancel()
    await asyncio.gather(crowd.tasks["a1"], crowd.tasks["b1"], return_exceptions=True)
    assert crowd.queued[-1] == 1
    await crowd.leave()
    assert crowd.inside == ["x", "a2"] and crowd.queued[-1] == 0
    await crowd.leave()
    assert crowd.gate.try_enter() and not crowd.gate.try_enter()


async def test_one_cancelled_just_as_it_is_let_in_lets_the_next_in() -> None:
    crowd = Crowd()
    await crowd.come("x", "a1", "a2")
    crowd.gate.leave()  # a1's turn, which its task has not seen yet
    crowd.tasks["a1"].cancel()
    await asyncio.gather(crowd.tasks["a1"], return_exceptions=True)
    await asyncio.sleep(0)
    assert crowd.inside == ["x", "a2"]
    await crowd.leave()
    assert crowd.gate.try_enter() and not crowd.gate.try_enter()


async def test_one_let_in_just_as_it_is_cancelled_lets_the_next_in() -> None:
    crowd = Crowd()
    await crowd.come("x", "a1", "a2")
    crowd.tasks["a1"].cancel()
    crowd.gate.leave()  # the queue does not know yet
    await asyncio.gather(crowd.tasks["a1"], return_exceptions=True)
    await asyncio.sleep(0)
    assert crowd.inside == ["x", "a2"] and crowd.queued[-1] == 0


async def test_a_full_queue_refuses_the_tenant_that_fills_it() -> None:
    crowd = Crowd(max_queued=3)
    await crowd.come("x", "a1", "a2", "a3", "a4")
    with pytest.raises(Overloaded):
        await crowd.tasks["a4"]
    await crowd.come("b1")  # in the place of the newest of a
    with pytest.raises(Overloaded):
        await crowd.tasks["a3"]
    await crowd.come("b2")  # two of each at most: a has two, b one
    with pytest.raises(Overloaded):
        await crowd.tasks["b2"]
    await crowd.leave(3)
    assert crowd.inside == ["x", "a1", "b1", "a2"] and max(crowd.queued) == 3


async def test_without_a_queue_nobody_waits() -> None:
    crowd = Crowd(max_queued=0)
    await crowd.come("x", "a1")
    with pytest.raises(Overloaded):
        await crowd.tasks["a1"]
    await crowd.leave()
    assert crowd.gate.try_enter()


async def test_many_come_and_go_and_the_room_stays_the_same() -> None:
    gate, inside, most = FairGate(4, 20, lambda _: None), 0, 0

    async def visit(number: int) -> None:
        nonlocal inside, most
        if not gate.try_enter():
            await gate.wait(f"t{number % 3}")
        inside += 1
        most = max(most, inside)
        try:
            await asyncio.sleep(0.001 * (number % 3))
        finally:
            inside -= 1
            gate.leave()

    tasks = [asyncio.create_task(visit(number)) for number in range(300)]
    for number, task in enumerate(tasks):
        if number % 7 == 0:
            await asyncio.sleep(0)
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert most == 4 and inside == 0
    assert [gate.try_enter() for _ in range(5)] == [True] * 4 + [False]


async def test_a_crowd_that_leaves_at_once_costs_no_place() -> None:
    """More of them than Python calls may nest, all gone in one turn of the event loop."""
    crowd = Crowd(max_queued=2000)
    await crowd.come("a1", *(f"b{number}" for number in range(2000)))
    for name, task in crowd.tasks.items():
        if name not in ("a1", "b1999"):
            task.cancel()
    await crowd.leave()
    assert crowd.inside == ["a1", "b1999"] and crowd.queued[-1] == 0
    await crowd.leave()
    assert crowd.gate.try_enter()
