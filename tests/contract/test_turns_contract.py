"""Turns between processes, over the store in memory and a real Redis server."""

from __future__ import annotations

import asyncio
import time

from gateway.cache.turns import Turns
from router.ports import Store

LEASE_S = 0.5


async def nothing() -> bytes | None:
    return None


async def test_one_has_the_turn_and_gives_it_back(store: Store) -> None:
    turns, others = Turns(store, 60), Turns(store, 60)
    async with turns.turn("a") as mine, others.turn("a") as theirs, others.turn("b") as another:
        assert mine and not theirs and another
    async with others.turn("a") as theirs:
        assert theirs


async def test_a_turn_given_back_late_is_nobody_elses(store: Store) -> None:
    slow, next_one = Turns(store, 0.1), Turns(store, 60)
    async with slow.turn("a"):
        await asyncio.sleep(0.15)
        async with next_one.turn("a") as theirs:
            assert theirs
            async with slow.turn("a") as mine:
                assert not mine
    async with next_one.turn("a") as theirs:
        assert theirs


async def test_those_who_wait_get_what_the_holder_stores(store: Store) -> None:
    turns, others = Turns(store, 60), Turns(store, 60)
    async with turns.turn("a"):
        waiting = [asyncio.create_task(others.outcome("a", lambda: store.get("answer"))) for _ in range(5)]
        await asyncio.sleep(0.05)
        await store.put("answer", b"42", 60)
    assert await asyncio.gather(*waiting) == [b"42"] * 5


async def test_a_holder_that_ends_without_an_answer_ends_the_wait(store: Store) -> None:
    turns = Turns(store, 60)
    async with turns.turn("a"):
        waiting = asyncio.create_task(turns.outcome("a", nothing))
        await asyncio.sleep(0.05)
    started = time.perf_counter()
    assert await waiting is None
    assert time.perf_counter() - started < 1


async def test_a_holder_that_died_blocks_nobody_beyond_its_lease(store: Store) -> None:
    turns = Turns(store, LEASE_S)
    async with turns.turn("a") as dead:  # it does not leave before the others are done
        assert dead
        started = time.perf_counter()
        assert await turns.outcome("a", nothing) is None
        assert LEASE_S * 0.5 < time.perf_counter() - started < LEASE_S + 1
        await asyncio.sleep(0.1)  # Redis counts whole milliseconds, by its own clock
        async with turns.turn("a") as mine:
            assert mine
