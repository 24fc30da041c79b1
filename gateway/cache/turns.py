"""One process at a time, of all that share a store, computes an answer: an optimisation, never a condition."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from router.errors import CacheUnavailable
from router.ports import Store

T = TypeVar("T")

_FIRST_WAIT_S, _LONGEST_WAIT_S, _BACKOFF = 0.01, 0.25, 1.6


class Turns:
    """Leases by name. Each ends after `lease_s` seconds, whatever became of its holder, and nobody waits longer."""

    def __init__(self, store: Store, lease_s: float) -> None:
        self._store, self._lease_s = store, lease_s

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[bool]:
        """Whether it is the caller's turn; it is where the store cannot say. Its lease ends with the context."""
        name, token = _lock(name), secrets.token_bytes(16)
        try:
            first = await self._store.add(name, token, self._lease_s)
        except CacheUnavailable:
            first, token = True, b""
        try:
            yield first
        finally:
            if first and token:
                with suppress(CacheUnavailable):  # it ends by itself
                    await self._store.swap(name, token, None)

    async def outcome(self, name: str, look: Callable[[], Awaitable[T | None]]) -> T | None:
        """What `look` finds once the holder of the lease has stored it.

        None when the holder has ended without storing anything, or holds on for `lease_s` seconds, or the store fails:
        the caller then computes for itself.
        """
        wait_s = _FIRST_WAIT_S
        with suppress(CacheUnavailable, TimeoutError):
            async with asyncio.timeout(self._lease_s):
                while True:
                    held = await self._store.get(_lock(name)) is not None  # asked first: it is given up after storing
                    if (found := await look()) is not None or not held:
                        return found
                    await asyncio.sleep(wait_s)
                    wait_s = min(wait_s * _BACKOFF, _LONGEST_WAIT_S)
        return None


def _lock(name: str) -> str:
    return f"{name}:turn"
