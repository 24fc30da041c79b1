"""Doubles for a pool: engines that answer with their name or fail as told, an observer, a clock that stands still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.resilience.replica_state import ReplicaState
from router.domain import EngineInfo
from router.errors import BackendError
from router.ports import Draw
from tests.support.fakes import ENGINE


@dataclass(slots=True)
class Engine:
    """Answers with its own name, or fails as told; `after` chunks of a stream."""

    name: str
    info: EngineInfo = ENGINE
    up: bool = True
    error: BackendError | None = None
    after: int = 0
    refuses: BackendError | None = None
    hold: asyncio.Event | None = None
    draws: list[Draw] = field(default_factory=list)
    posts: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    degraded: str | None = None
    probes: int = 0
    closed: bool = False

    @property
    def url(self) -> str:
        return f"http://{self.name}"

    async def complete(self, draw: Draw) -> Mapping[str, Any]:
        self.draws.append(draw)
        if self.hold is not None:
            await self.hold.wait()
        if self.error is not None:
            raise self.error
        return {"by": self.name}

    async def stream(self, draw: Draw) -> AsyncGenerator[Mapping[str, Any]]:
        self.draws.append(draw)
        if self.hold is not None:
            await self.hold.wait()
        for number in range(3):
            if self.error is not None and number == self.after:
                raise self.error
            yield {"by": self.name, "number": number}

    async def post_json(self, path: str, body: Mapping[str, Any], timeout_s: float) -> Mapping[str, Any]:
        self.posts.append(path)
        if self.error is not None:
            raise self.error
        return {"by": self.name}

    async def stream_json(
        self, path: str, body: Mapping[str, Any], timeout_s: float
    ) -> AsyncGenerator[Mapping[str, Any]]:
        yield await self.post_json(path, body, timeout_s)

    async def load_policy(self, name: str, folder: Path) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.loaded.append(name)

    async def probe(self) -> EngineInfo:
        self.probes += 1
        return self.info

    async def alive(self) -> bool:
        return self.up

    async def close(self) -> None:
        self.closed = True


@dataclass(slots=True)
class Observer:
    failovers: int = 0
    states: Mapping[ReplicaState, int] = field(default_factory=dict)
    in_flight: int = 0

    def observe_failover(self) -> None:
        self.failovers += 1

    def set_replicas(self, states: Mapping[ReplicaState, int], in_flight: int) -> None:
        self.states, self.in_flight = dict(states), in_flight


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now
