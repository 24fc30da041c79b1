"""A store whose values only the holders of its key can write: each carries a MAC over its name and its bytes."""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Callable
from hashlib import blake2b

from router.ports import Store

_MAC_BYTES = 32
_SAY_EVERY_S = 60.0

_log = logging.getLogger(__name__)


class SealedStore:
    """Seals what goes into a `Store` with keyed BLAKE2b (RFC 7693) and checks it before anything reads what comes out.

    A value that was damaged, moved from another name, or written without the key is no value: it is counted through
    `on_reject` and logged at most once a minute. Every method raises `CacheUnavailable` as the store does.
    """

    def __init__(
        self,
        store: Store,
        key: bytes,
        on_reject: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._key, self._on_reject, self._clock = store, key, on_reject, clock
        self._said_at = -_SAY_EVERY_S
        self._unsaid = 0

    async def get(self, name: str) -> bytes | None:
        """The payload under `name`, or None."""
        value = await self._store.get(name)
        if value is None:
            return None
        mac, payload = value[:_MAC_BYTES], value[_MAC_BYTES:]
        if hmac.compare_digest(mac, self._mac(name, payload)):
            return payload
        self.reject()
        return None

    async def put(self, name: str, payload: bytes, ttl_s: float) -> None:
        """Store a payload for `ttl_s` seconds."""
        await self._store.put(name, self._sealed(name, payload), ttl_s)

    async def add(self, name: str, payload: bytes, ttl_s: float) -> bool:
        """Store a payload unless there is a value; whether it was stored."""
        return await self._store.add(name, self._sealed(name, payload), ttl_s)

    async def swap(self, name: str, old: bytes, new: bytes | None, ttl_s: float = 0.0) -> bool:
        """Replace the payload, or with None remove it, if it still is `old`; whether it was."""
        replacement = None if new is None else self._sealed(name, new)
        return await self._store.swap(name, self._sealed(name, old), replacement, ttl_s)

    async def remove(self, name: str) -> None:
        """Remove the value, if there is one."""
        await self._store.remove(name)

    def reject(self) -> None:
        """Count a value that cannot be used."""
        self._on_reject()
        self._unsaid += 1
        now = self._clock()
        if now - self._said_at >= _SAY_EVERY_S:
            _log.warning(
                "%d values of the cache were not written with this gateway's secret, or are damaged: treated as absent",
                self._unsaid,
            )
            self._said_at, self._unsaid = now, 0

    def _sealed(self, name: str, payload: bytes) -> bytes:
        return self._mac(name, payload) + payload

    def _mac(self, name: str, payload: bytes) -> bytes:
        mac = blake2b(name.encode() + b"\0", key=self._key, digest_size=_MAC_BYTES)
        mac.update(payload)
        return mac.digest()
