"""The `Backend` over several engines that serve one model: health, breakers, failover, affinity."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Protocol, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from gateway.adapters.replica import Engine, Replica
from gateway.adapters.replica_care import Roster
from gateway.resilience.affinity import preferred, prefix_keys
from gateway.resilience.replica_state import ReplicaState
from router.domain import EngineInfo
from router.errors import BackendError, BackendRejected, BackendUnavailable
from router.ports import Draw

T = TypeVar("T")


class PoolObserver(Protocol):
    """Who hears of what the pool does."""

    def observe_failover(self) -> None:
        """A request goes to a second engine."""
        ...

    def set_replicas(self, states: Mapping[ReplicaState, int], in_flight: int) -> None:
        """Engines by state, and the samples they generate for this process now."""
        ...


class _Ask(Struct, frozen=True):
    """One request to place. `deadline` is in seconds of the pool's clock."""

    model: str
    deadline: float
    samples: int = 1
    keys: tuple[str, ...] = ()
    chat: bool = False


class BackendPool:
    """Use as an async context manager, or call `close`. Raises `BackendUnavailable` while no engine may be used.

    A request that an engine failed before any output of it was seen goes to one other engine, within its deadline. A
    refusal (4xx) and a passed deadline are final: another engine would say the same.
    """

    def __init__(
        self, engines: Sequence[Engine], observer: PoolObserver, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._replicas = tuple(Replica(engine, clock) for engine in engines)
        self._roster = Roster(self._replicas)
        self._observer, self._clock = observer, clock

    async def __aenter__(self) -> BackendPool:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End what is under way in the background and close every connection."""
        await self._roster.close()
        for replica in self._replicas:
            await replica.engine.close()

    @property
    def in_flight(self) -> int:
        """Samples being generated for this process now."""
        return sum(replica.in_flight for replica in self._replicas)

    @property
    def degraded(self) -> str | None:
        """What is wrong with some engines while others serve."""
        faults = [f"{each.name}: {each.fault}" for each in self._replicas if each.fault is not None]
        return "; ".join(faults) if faults and any(each.usable for each in self._replicas) else None

    async def alive(self) -> bool:
        """Look at every engine; whether one may be used, or soon may."""
        alive = await self._roster.look()
        self._observer.set_replicas(Counter(each.state for each in self._replicas), self.in_flight)
        return alive

    async def probe(self) -> EngineInfo:
        """The facts of the engine that was probed first, which the others have to share."""
        return await self._roster.facts()

    async def load_policy(self, name: str, folder: Path) -> None:
        """Load a LoRA adapter into every engine, those included that come up later. Raises if none can take it."""
        await self._roster.load_policy(name, folder)

    async def complete(self, draw: Draw) -> Mapping[str, Any]:
        """The whole chat completion object."""

        async def call(engine: Engine, timeout_s: float) -> Mapping[str, Any]:
            return await engine.complete(replace(draw, timeout_s=timeout_s))

        return await self._whole(self._placed(draw), call)

    def stream(self, draw: Draw) -> AsyncGenerator[Mapping[str, Any]]:
        """The chunks of a chat completion. Leaving early cancels the samples upstream."""

        def call(engine: Engine, timeout_s: float) -> AsyncGenerator[Mapping[str, Any]]:
            return engine.stream(replace(draw, timeout_s=timeout_s))

        return self._streamed(self._placed(draw), call)

    async def post_json(self, path: str, body: Mapping[str, Any], timeout_s: float) -> Mapping[str, Any]:
        """The JSON object that one of the engines' POST routes answers."""

        async def call(engine: Engine, left_s: float) -> Mapping[str, Any]:
            return await engine.post_json(path, body, left_s)

        return await self._whole(_Ask(body["model"], self._clock() + timeout_s), call)

    def stream_json(self, path: str, body: Mapping[str, Any], timeout_s: float) -> AsyncGenerator[Mapping[str, Any]]:
        """The JSON objects that one of the engines' POST routes streams."""

        def call(engine: Engine, left_s: float) -> AsyncGenerator[Mapping[str, Any]]:
            return engine.stream_json(path, body, left_s)

        return self._streamed(_Ask(body["model"], self._clock() + timeout_s), call)

    async def _whole(self, ask: _Ask, call: Callable[[Engine, float], Awaitable[T]]) -> T:
        replica = self._choose(ask)
        try:
            with replica.carrying(ask.samples):
                return await call(replica.engine, self._left(ask))
        except BackendError as error:
            second = self._second(ask, replica, error)
        with second.carrying(ask.samples):
            return await call(second.engine, self._left(ask))

    async def _streamed(
        self, ask: _Ask, call: Callable[[Engine, float], AsyncGenerator[Mapping[str, Any]]]
    ) -> AsyncGenerator[Mapping[str, Any]]:
        replica, spoke, failed_over = self._choose(ask), False, False
        while True:
            try:
                with replica.carrying(ask.samples):
                    async with aclosing(call(replica.engine, self._left(ask))) as chunks:
                        async for chunk in chunks:
                            spoke = True
                            yield chunk
                return
            except (asyncio.CancelledError, GeneratorExit):
                if spoke:
                    replica.answered()
                raise
            except BackendError as error:
                if spoke or failed_over:
                    raise
                replica, failed_over = self._second(ask, replica, error), True

    def _placed(self, draw: Draw) -> _Ask:
        keys = prefix_keys(draw) if len(self._replicas) > 1 else ()
        return _Ask(draw.model, self._clock() + draw.timeout_s, draw.n, keys, chat=True)

    def _choose(self, ask: _Ask, without: Replica | None = None) -> Replica:
        able = [each for each in self._replicas if each is not without and self._roster.serves(each, ask.model)]
        for replica in preferred(able, ask.keys, ask.samples):
            if replica.admits():
                return replica
        faults = [f"{each.name}: {each.fault or 'it keeps failing requests'}" for each in self._replicas]
        raise BackendUnavailable(f"no engine can serve {ask.model} now ({'; '.join(faults)})")

    def _second(self, ask: _Ask, first: Replica, error: BackendError) -> Replica:
        """Where a failed request goes next; raises its own error when it may not, or there is no other engine."""
        if ask.chat and isinstance(error, BackendRejected) and error.status == 404:
            first.adapters.discard(ask.model)  # restarted between two looks: the next one loads it again
        if not error.engine_failed or self._left(ask) <= 0:
            raise error
        try:
            second = self._choose(ask, without=first)
        except BackendUnavailable:
            raise error from None
        self._observer.observe_failover()
        return second

    def _left(self, ask: _Ask) -> float:
        return ask.deadline - self._clock()
