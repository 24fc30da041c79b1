"""The store of one process: used when no Redis is configured, lost at its end, not shared between workers."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable


class MemoryStore:
    """`router.ports.Store` as an LRU of at most `entries` values."""

    def __init__(self, entries: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._entries = entries
        self._clock = clock
        self._stored: OrderedDict[str, tuple[float, bytes]] = OrderedDict()

    async def get(self, name: str) -> bytes | None:
        """The value stored under `name`, or None."""
        return self._look(name)

    async def put(self, name: str, value: bytes, ttl_s: float) -> None:
        """Store a value for `ttl_s` seconds; the least recently used one makes room."""
        self._stored[name] = (self._clock() + ttl_s, value)
        self._stored.move_to_end(name)
        if len(self._stored) > self._entries:
            self._stored.popitem(last=False)

    async def add(self, name: str, value: bytes, ttl_s: float) -> bool:
        """Store a value unless there is one; whether it was stored."""
        if self._look(name) is not None:
            return False
        await self.put(name, value, ttl_s)
        return True

    async def swap(self, name: str, old: bytes, new: bytes | None, ttl_s: float = 0.0) -> bool:
        """Replace the value, or with None remove it, if it still is `old`; whether it was."""
        if self._look(name) != old:
            return False
        if new is None:
            del self._stored[name]
        else:
            await self.put(name, new, ttl_s)
        return True

    async def remove(self, name: str) -> None:
        """Remove the value, if there is one."""
        self._stored.pop(name, None)

    async def alive(self) -> bool:
        """Always: it is this process's own memory."""
        return True

    async def close(self) -> None:
        """Forget everything."""
        self._stored.clear()

    def _look(self, name: str) -> bytes | None:
        expires, value = self._stored.get(name, (0.0, None))
        if value is None:
            return None
        if expires <= self._clock():
            del self._stored[name]
            return None
        self._stored.move_to_end(name)
        return value
