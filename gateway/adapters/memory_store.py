"""The store of one process: used when no Redis is configured, lost at its end, not shared between workers."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable


class MemoryStore:
    """`router.ports.Store` as an LRU of at most `entries` values and `max_bytes` bytes; a larger value is not kept."""

    def __init__(
        self, entries: int, max_bytes: int = 128 * 1024 * 1024, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._entries, self._max_bytes, self._bytes = entries, max_bytes, 0
        self._clock = clock
        self._stored: OrderedDict[str, tuple[float, bytes]] = OrderedDict()

    async def get(self, name: str) -> bytes | None:
        """The value stored under `name`, or None."""
        return self._look(name)

    async def put(self, name: str, value: bytes, ttl_s: float) -> None:
        """Store a value for `ttl_s` seconds; the least recently used ones make room."""
        self._drop(name)
        self._stored[name] = (self._clock() + ttl_s, value)
        self._bytes += len(value)
        while len(self._stored) > self._entries or self._bytes > self._max_bytes:
            self._drop(next(iter(self._stored)))

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
            self._drop(name)
        else:
            await self.put(name, new, ttl_s)
        return True

    async def remove(self, name: str) -> None:
        """Remove the value, if there is one."""
        self._drop(name)

    async def alive(self) -> bool:
        """Always: it is this process's own memory."""
        return True

    async def close(self) -> None:
        """Forget everything."""
        self._stored.clear()
        self._bytes = 0

    def _look(self, name: str) -> bytes | None:
        expires, value = self._stored.get(name, (0.0, None))
        if value is None:
            return None
        if expires <= self._clock():
            self._drop(name)
            return None
        self._stored.move_to_end(name)
        return value

    def _drop(self, name: str) -> None:
        _, value = self._stored.pop(name, (0.0, b""))
        self._bytes -= len(value)
