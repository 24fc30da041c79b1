"""The answer cache of one process: used when no Redis is configured, lost at its end, not shared between workers."""

from __future__ import annotations

import random
import time
from collections import OrderedDict
from collections.abc import Callable

from router.cache_key import key_of
from router.records import CachedAnswer


class MemoryCache:
    """`router.ports.AnswerCache` as a bounded LRU. Entries live `ttl_s` seconds, give or take 10 %."""

    def __init__(self, entries: int, ttl_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.rejected = 0  # values found that were not their key's
        self._entries = entries
        self._ttl_s = ttl_s
        self._clock = clock
        self._stored: OrderedDict[str, tuple[float, CachedAnswer]] = OrderedDict()

    async def get(self, key: str) -> CachedAnswer | None:
        """The answer stored under `key`, or None."""
        expires, answer = self._stored.get(key, (0.0, None))
        if answer is None:
            return None
        if expires <= self._clock():
            del self._stored[key]
            return None
        if key_of(answer.key_digest) != key:
            self.rejected += 1
            return None
        self._stored.move_to_end(key)
        return answer

    async def put(self, key: str, answer: CachedAnswer) -> None:
        """Store a verified answer; the least recently used one makes room."""
        self._stored[key] = (self._clock() + self._ttl_s * random.uniform(0.9, 1.1), answer)
        self._stored.move_to_end(key)
        if len(self._stored) > self._entries:
            self._stored.popitem(last=False)

    async def alive(self) -> bool:
        """Always: it is this process's own memory."""
        return True

    async def close(self) -> None:
        """Forget everything."""
        self._stored.clear()
