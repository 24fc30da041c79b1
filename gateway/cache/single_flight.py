"""One computation for all who want the same thing at the same time, within one process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Shared(Generic[T]):
    """What a flight brought. `mine` is true for one of its passengers: the one in whose name it counts."""

    value: T
    mine: bool


@dataclass(slots=True)
class _Flight(Generic[T]):
    task: asyncio.Task[T]
    waiting: int = 0
    taken: bool = False


class SingleFlight(Generic[T]):
    """Flights by key. A flight belongs to all who wait for it: it ends early only when the last of them leaves.

    What it raises reaches its own passengers alone; the next caller starts a new flight.
    """

    def __init__(self) -> None:
        self._flights: dict[bytes, _Flight[T]] = {}

    def flying(self, key: bytes) -> bool:
        """Whether a caller would join others now."""
        return key in self._flights

    async def join(self, key: bytes, work: Callable[[], Coroutine[Any, Any, T]], patience_s: float) -> Shared[T] | None:
        """The result of the flight under way for `key`, or of `work()`, started now.

        None for a caller who joined others and waited `patience_s` seconds in vain. Raises what the work raises.
        """
        flight = self._flights.get(key)
        joined = flight is not None
        if flight is None:
            flight = self._flights[key] = _Flight(asyncio.create_task(work()))
            flight.task.add_done_callback(partial(self._landed, key, flight))
        flight.waiting += 1
        try:
            await asyncio.wait({flight.task}, timeout=patience_s if joined else None)
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                self._landed(key, flight, flight.task)  # nobody may board a flight that is being given up
                flight.task.cancel()
                await asyncio.gather(flight.task, return_exceptions=True)
        if not flight.task.done():
            return None
        mine = not flight.taken
        flight.taken = True
        return Shared(flight.task.result(), mine)

    def _landed(self, key: bytes, flight: _Flight[T], _: asyncio.Task[T]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
