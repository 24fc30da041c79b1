"""The pool over engines that are doubles: what a test does to one, it does by hand, and time stands still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from gateway.adapters.backend_pool import BackendPool
from gateway.resilience.replica_state import ReplicaState
from router.domain import Prompt, Sampling
from router.errors import (
    BackendError,
    BackendProtocolError,
    BackendRejected,
    BackendTimeout,
    BackendUnavailable,
)
from router.ports import Draw
from tests.support.engine_double import Clock, Engine, Observer
from tests.support.fakes import ENGINE

POLICY = "policy-1-0a1b2c3d"
DEAD = BackendUnavailable("connection refused")


def rejected(status: int) -> BackendRejected:
    return BackendRejected("no", status, {"error": {"message": "no"}})


def ask(text: str = "hello", n: int = 1, model: str = "base") -> Draw:
    return Draw(Prompt(({"role": "user", "content": text},)), Sampling(), model, n, None, 30.0)


@dataclass(slots=True)
class Rig:
    pool: BackendPool
    first: Engine  # the favourite of `ask()`
    second: Engine
    observer: Observer
    clock: Clock

    async def look(self) -> bool:
        """One look, and all that it sets off."""
        alive = await self.pool.alive()
        if alive:
            await self.pool.probe()
        for _ in range(20):
            await asyncio.sleep(0)
        return alive

    def degraded(self) -> str | None:
        return self.pool.degraded

    async def by(self, draw: Draw | None = None) -> str:
        return str((await self.pool.complete(draw or ask()))["by"])

    async def chunks(self) -> list[Mapping[str, Any]]:
        return [chunk async for chunk in self.pool.stream(ask())]


@asynccontextmanager
async def rigged(*engines: Engine) -> AsyncIterator[Rig]:
    observer, clock = Observer(), Clock()
    async with BackendPool(engines, observer, clock) as pool:
        rig = Rig(pool, engines[0], engines[-1], observer, clock)
        await rig.look()
        if await rig.by() != rig.first.name:
            rig.first, rig.second = rig.second, rig.first
        for engine in engines:
            engine.draws.clear()
        yield rig
    assert all(engine.closed for engine in engines)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with rigged(Engine("a:1"), Engine("b:2")) as rig:
        yield rig


async def test_one_prompt_goes_to_one_engine_and_prompts_spread(rig: Rig) -> None:
    assert {await rig.by() for _ in range(5)} == {rig.first.name}
    assert {await rig.by(ask(str(number))) for number in range(20)} == {"a:1", "b:2"}


@pytest.mark.parametrize("error", [DEAD, BackendProtocolError("not JSON"), rejected(500), rejected(503)])
async def test_a_failed_draw_goes_to_the_other_engine_once(rig: Rig, error: BackendError) -> None:
    rig.first.error = error
    assert await rig.by() == rig.second.name and rig.observer.failovers == 1
    assert [chunk["by"] for chunk in await rig.chunks()] == [rig.second.name] * 3
    assert (await rig.pool.post_json("/v1/embeddings", {"model": "base"}, 5.0))["by"] in ("a:1", "b:2")
    rig.second.error = error
    before = len(rig.first.draws) + len(rig.second.draws)
    with pytest.raises(type(error)):
        await rig.by()
    assert len(rig.first.draws) + len(rig.second.draws) == before + 2


@pytest.mark.parametrize("error", [rejected(400), rejected(404), rejected(429), BackendTimeout("late")])
async def test_a_refusal_and_a_deadline_are_final(rig: Rig, error: BackendError) -> None:
    rig.first.error = error
    with pytest.raises(type(error)):
        await rig.by()
    with pytest.raises(type(error)):
        await rig.chunks()
    assert rig.second.draws == [] and rig.observer.failovers == 0


async def test_after_output_was_seen_nothing_is_drawn_again(rig: Rig) -> None:
    rig.first.error, rig.first.after = DEAD, 1
    seen = []
    with pytest.raises(BackendUnavailable):
        async for chunk in rig.pool.stream(ask()):
            seen.append(chunk)
    assert len(seen) == 1 and rig.second.draws == []


async def test_the_second_engine_gets_what_is_left_of_the_deadline(rig: Rig) -> None:
    rig.first.error, rig.first.hold = DEAD, asyncio.Event()
    answering = asyncio.create_task(rig.by())
    await asyncio.sleep(0)
    rig.clock.now = 20.0
    rig.first.hold.set()
    assert await answering == rig.second.name
    assert rig.second.draws[0].timeout_s == pytest.approx(10.0)
    rig.first.hold.clear()
    answering = asyncio.create_task(rig.by())
    await asyncio.sleep(0)
    rig.clock.now = 60.0
    rig.first.hold.set()
    with pytest.raises(BackendUnavailable):
        await answering


async def test_an_engine_that_keeps_failing_is_left_alone_and_asked_again(rig: Rig) -> None:
    rig.first.error = DEAD
    for _ in range(5):
        await rig.by()
    assert len(rig.first.draws) == 5
    await rig.look()
    assert rig.observer.states == {ReplicaState.OPEN: 1, ReplicaState.UP: 1}
    assert await rig.by() == rig.second.name and len(rig.first.draws) == 5
    rig.clock.now += 5.0
    rig.first.error = None
    assert await rig.by() == rig.first.name and await rig.by() == rig.first.name


async def test_alone_it_is_left_alone_all_the_same() -> None:
    async with rigged(Engine("a:1")) as rig:
        rig.first.error = rejected(500)
        for _ in range(5):
            with pytest.raises(BackendRejected):
                await rig.by()
        with pytest.raises(BackendUnavailable, match="a:1: it keeps failing"):
            await rig.by()
        rig.first.up = False  # a restart clears its record
        assert not await rig.look()
        rig.first.up, rig.first.error = True, None
        assert await rig.look() and await rig.by() == "a:1"


async def test_refusals_between_failures_keep_the_breaker_closed(rig: Rig) -> None:
    for _ in range(10):
        rig.first.error = DEAD
        await rig.by()
        rig.first.error = rejected(400)
        with pytest.raises(BackendRejected):
            await rig.by()
    assert len(rig.first.draws) == 20


async def test_a_reader_that_leaves_after_output_closes_a_half_open_breaker(rig: Rig) -> None:
    rig.first.error = DEAD
    for _ in range(5):
        await rig.by()
    rig.first.error, rig.clock.now = None, 5.0
    async with aclosing(rig.pool.stream(ask())) as chunks:
        assert (await anext(chunks))["by"] == rig.first.name
    assert await rig.by() == rig.first.name and rig.pool.in_flight == 0


async def test_a_reader_that_leaves_a_silent_second_engine_says_nothing_of_it(rig: Rig) -> None:
    rig.first.error = rig.second.error = DEAD
    for _ in range(4):
        with pytest.raises(BackendUnavailable):
            await rig.by()
    rig.second.error, rig.second.hold = None, asyncio.Event()
    leaving = asyncio.ensure_future(anext(rig.pool.stream(ask())))
    while len(rig.second.draws) < 5:
        await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait({leaving})
    rig.second.error, rig.second.hold = DEAD, None
    with pytest.raises(BackendUnavailable):
        await rig.by()  # its fifth failure
    with pytest.raises(BackendUnavailable, match="keeps failing"):
        await rig.by()


async def test_an_engine_that_is_down_is_not_asked_and_its_prompts_come_back(rig: Rig) -> None:
    rig.first.up = False
    assert await rig.look()
    assert rig.degraded() == f"{rig.first.name}: it does not answer"
    assert await rig.by() == rig.second.name and rig.first.draws == [] and rig.observer.failovers == 0
    rig.second.up = False
    assert not await rig.look() and rig.degraded() is None
    with pytest.raises(BackendUnavailable, match="does not answer"):
        await rig.by()
    rig.first.up = rig.second.up = True
    assert await rig.look() and rig.degraded() is None
    assert await rig.by() == rig.first.name


async def test_load_spills_to_the_idle_engine(rig: Rig) -> None:
    rig.first.hold = rig.second.hold = asyncio.Event()
    running = [asyncio.create_task(rig.by()) for _ in range(40)]
    await asyncio.sleep(0)
    assert rig.pool.in_flight == 40
    assert 10 <= len(rig.second.draws) < len(rig.first.draws)
    running[0].cancel()
    rig.first.hold.set()
    await asyncio.gather(*running, return_exceptions=True)
    assert rig.pool.in_flight == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"models": ("another",)}, "its model is another, not base"),
        ({"logprobs_mode": "raw_logprobs"}, "its logprobs mode is raw_logprobs"),
        ({"token_ids": False}, "token ids"),
        ({"template_fingerprint": "0" * 64}, "chat template"),
        ({"models": ()}, "no base model"),
    ],
)
async def test_an_engine_unlike_the_first_is_not_used(change: dict[str, Any], words: str) -> None:
    async with rigged(Engine("a:1"), Engine("b:2", replace(ENGINE, **change))) as rig:
        assert {await rig.by(ask(str(number))) for number in range(20)} == {"a:1"}
        assert words in (rig.degraded() or "")
        await rig.look()
        assert rig.observer.states == {ReplicaState.UP: 1, ReplicaState.UNFIT: 1}


async def test_a_policy_is_loaded_into_every_engine_and_into_one_that_comes_back(rig: Rig) -> None:
    await rig.pool.load_policy(POLICY, Path("/policies"))
    assert rig.first.loaded == rig.second.loaded == [POLICY]
    rig.first.up = False
    await rig.look()
    rig.first.up, rig.first.refuses = True, DEAD
    await rig.look()
    assert await rig.by(ask(model=POLICY)) == rig.second.name  # it is back, without the adapter
    assert await rig.by() == rig.first.name and rig.degraded() == f"{rig.first.name}: connection refused"
    rig.first.refuses = None
    await rig.look()
    assert rig.first.loaded == [POLICY] * 2 and rig.degraded() is None
    assert {await rig.by(ask(str(number), model=POLICY)) for number in range(20)} == {"a:1", "b:2"}


async def test_a_policy_that_one_engine_refuses_is_served_by_the_other(rig: Rig) -> None:
    rig.first.refuses = DEAD
    await rig.pool.load_policy(POLICY, Path("/policies"))
    assert {await rig.by(ask(str(number), model=POLICY)) for number in range(20)} == {rig.second.name}
    rig.second.refuses = DEAD
    with pytest.raises(BackendUnavailable, match="connection refused"):
        await rig.pool.load_policy("policy-2-0a1b2c3d", Path("/policies"))


async def test_streams_of_other_routes_pass_through(rig: Rig) -> None:
    chunks = [chunk async for chunk in rig.pool.stream_json("/v1/completions", {"model": "base"}, 5.0)]
    assert len(chunks) == 1 and rig.first.posts + rig.second.posts == ["/v1/completions"]


async def test_without_an_engine_there_are_no_facts() -> None:
    async with BackendPool([Engine("a:1", up=False)], Observer(), Clock()) as pool:
        assert not await pool.alive()
        with pytest.raises(BackendUnavailable, match="a:1: it does not answer"):
            await pool.probe()


async def test_an_engine_that_forgot_an_adapter_gets_it_again(rig: Rig) -> None:
    """It restarted between two looks."""
    await rig.pool.load_policy(POLICY, Path("/policies"))
    prompts = [ask(str(number), model=POLICY) for number in range(20)]
    homes = [await rig.by(prompt) for prompt in prompts]
    asked = prompts[homes.index("a:1")]
    forgetful = rig.first if rig.first.name == "a:1" else rig.second
    forgetful.error = rejected(404)
    with pytest.raises(BackendRejected):
        await rig.by(asked)
    forgetful.error = None
    assert await rig.by(asked) == "b:2"
    await rig.look()
    assert await rig.by(asked) == "a:1" and forgetful.loaded == [POLICY] * 2
