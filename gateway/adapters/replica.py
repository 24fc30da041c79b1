"""One engine of several: whether it may be used, what it has loaded, and how busy it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol
from urllib.parse import urlsplit

from gateway.resilience.breaker import Breaker, BreakerState
from gateway.resilience.replica_state import ReplicaState
from router.domain import EngineInfo
from router.errors import BackendError, BackendRejected
from router.ports import Backend


class Engine(Backend, Protocol):
    """What a pool needs of an engine: the port, and the routes that are passed through."""

    @property
    def url(self) -> str:
        """Its base URL."""
        ...

    async def post_json(self, path: str, body: Mapping[str, Any], timeout_s: float) -> Mapping[str, Any]:
        """The JSON object that one of the engine's POST routes answers."""
        ...

    def stream_json(self, path: str, body: Mapping[str, Any], timeout_s: float) -> AsyncGenerator[Mapping[str, Any]]:
        """The JSON objects that one of the engine's POST routes streams."""
        ...

    async def close(self) -> None:
        """Close its connections."""
        ...


def _name(url: str) -> str:
    """Where the engine is, without the scheme and what a URL may hold of a password."""
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2] + parts.path


class Replica:
    """An engine with what is known of it. `facts` are its probe's, None until it was probed since it last came up."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self.engine = engine
        self.name = _name(engine.url)
        self.up = False
        self.facts: EngineInfo | None = None
        self.unfit: str | None = None  # why it is not used though it answers
        self.fault: str | None = "it has not answered yet"
        self.adapters: set[str] = set()
        self.in_flight = 0
        self.settling: asyncio.Task[None] | None = None
        self._clock = clock
        self._breaker = self._new_breaker()

    @property
    def state(self) -> ReplicaState:
        """Whether it is used."""
        if not self.up:
            return ReplicaState.DOWN
        if self.facts is None or self.unfit is not None:
            return ReplicaState.UNFIT
        return ReplicaState.UP if self._breaker.state is BreakerState.CLOSED else ReplicaState.OPEN

    @property
    def usable(self) -> bool:
        """Whether requests may go to it, as far as its breaker admits them."""
        return self.state in (ReplicaState.UP, ReplicaState.OPEN)

    def admits(self) -> bool:
        """Whether its breaker lets one request through; that one is then to be carried."""
        return self._breaker.admits()

    def lost(self) -> None:
        """It went away; it comes back with nothing but its base model, and with a clean record."""
        self.up, self.facts, self.unfit = False, None, None
        self.adapters.clear()
        self._breaker = self._new_breaker()
        if self.settling is not None:
            self.settling.cancel()

    @contextmanager
    def carrying(self, samples: int) -> Iterator[None]:
        """Count samples as in flight while the context is open, and tell the breaker how it ended."""
        breaker = self._breaker
        self.in_flight += samples
        try:
            yield
            breaker.succeeded()
        except BackendError as error:
            if error.engine_failed:
                breaker.failed()
            elif isinstance(error, BackendRejected):
                breaker.succeeded()
            raise
        finally:
            self.in_flight -= samples

    def answered(self) -> None:
        """It said something to a reader who then left."""
        self._breaker.succeeded()

    def _new_breaker(self) -> Breaker:
        return Breaker(consecutive=True, clock=self._clock)
