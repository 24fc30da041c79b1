"""Requests for the same answer at the same time cost one computation, within a process and between processes."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import nullcontext
from functools import partial
from typing import Any

from gateway.answer import Solved
from gateway.cache.single_flight import Shared, SingleFlight
from gateway.cache.turns import Turns
from gateway.cache.verified_answers import CacheKey, VerifiedAnswers
from gateway.telemetry.metrics import Leader, Metrics
from gateway.telemetry.stopwatch import Stopwatch
from router.errors import BackendTimeout
from router.records import CachedAnswer

Work = Callable[[], Coroutine[Any, Any, Solved]]


class Coalescer:
    """Lets one of many equal requests compute. The key holds the tenant, so no two tenants ever share.

    The others get a verified answer as the cache would give it. Any other answer is one request's alone: the rest
    compute for themselves, as do those whose patience with a computation in this process ended, or the deadline of
    whose first request did.
    """

    def __init__(self, verified: VerifiedAnswers, turns: Turns, metrics: Metrics) -> None:
        self._verified, self._turns, self._metrics = verified, turns, metrics
        self._flights: SingleFlight[Solved | CachedAnswer] = SingleFlight()

    async def solve(self, key: CacheKey, work: Work, watch: Stopwatch, patience_s: float) -> Solved | CachedAnswer:
        """What `work()` brings, or another request's verified answer. Raises what the computation raises."""
        joined = self._flights.flying(key.digest)
        with watch.elsewhere() if joined else nullcontext():
            try:
                shared = await self._flights.join(key.digest, partial(self._in_turn, key, work, watch), patience_s)
            except BackendTimeout:
                if not joined:
                    raise
                shared = None  # the deadline was another's
        match shared:
            case Shared(CachedAnswer() as stored):
                self._metrics.observe_coalesced(Leader.ELSEWHERE)
                return stored
            case Shared(Solved() as solved, mine=True):
                return solved
            case Shared(Solved(entry=CachedAnswer() as stored)):
                self._metrics.observe_coalesced(Leader.HERE)
                return stored
        return await work()

    async def _in_turn(self, key: CacheKey, work: Work, watch: Stopwatch) -> Solved | CachedAnswer:
        """Compute, or take what another process that is computing it stores."""
        async with self._turns.turn(key.name) as first:
            if not first:
                with watch.elsewhere():
                    stored = await self._turns.outcome(key.name, partial(self._verified.peek, key))
                if stored is not None:
                    return stored
            return await work()
