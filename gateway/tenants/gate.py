"""How many requests are served at a time, and who is next: round robin over the tenants that wait, each in order."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable

from router.errors import Overloaded


class FairGate:
    """At most `max_inflight` requests inside and `max_queued` before it, in one event loop.

    A full queue drops from its longest line (longest queue drop; Suter et al., INFOCOM 1998), so that one tenant cannot
    keep the others out. `on_queue` hears how many wait.
    """

    def __init__(self, max_inflight: int, max_queued: int, on_queue: Callable[[int], None]) -> None:
        self._free, self._max_queued, self._on_queue = max_inflight, max_queued, on_queue
        self._lines: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()  # the next tenant first; none empty
        self._queued = 0

    def try_enter(self) -> bool:
        """Go in at once if there is room: while there is, nobody waits."""
        if self._free == 0:
            return False
        self._free -= 1
        return True

    async def wait(self, tenant: str) -> None:
        """Wait to go in. Raises `Overloaded` when the queue is full; cancelling it leaves the queue."""
        if self._queued >= self._max_queued:
            self._make_room(tenant)
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(tenant, deque()).append(place)
        self._count(+1)
        try:
            await place
        except asyncio.CancelledError:
            if place.cancelled():
                self._remove(tenant, place)
            else:  # let in at that very moment
                self.leave()
            raise

    def leave(self) -> None:
        """Come out: the next one goes in who still waits."""
        while self._lines:
            tenant, line = next(iter(self._lines.items()))
            place = line.popleft()
            self._count(-1)
            if line:
                self._lines.move_to_end(tenant)
            else:
                del self._lines[tenant]
            if not place.cancelled():
                place.set_result(None)
                return
        self._free += 1

    def _make_room(self, tenant: str) -> None:
        """Drop the newest of the longest line, unless that is the newcomer. Raises `Overloaded`."""
        full = Overloaded("the gateway serves as many requests as it may, and as many as may wait do")
        longest = max(self._lines, key=lambda name: len(self._lines[name]), default=tenant)
        if len(self._lines.get(longest, ())) <= len(self._lines.get(tenant, ())) + 1:
            raise full
        place = self._lines[longest][-1]
        self._remove(longest, place)
        if not place.done():
            place.set_exception(full)

    def _remove(self, tenant: str, place: asyncio.Future[None]) -> None:
        line = self._lines.get(tenant)
        if line is None or place not in line:
            return
        line.remove(place)
        self._count(-1)
        if not line:
            del self._lines[tenant]

    def _count(self, change: int) -> None:
        self._queued += change
        self._on_queue(self._queued)
