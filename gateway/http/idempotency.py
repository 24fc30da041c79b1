"""`Idempotency-Key`: a request that is sent again gets the answer it had (draft-ietf-httpapi-idempotency-key-header).

Its promise is kept while the store answers. Without the store a request is served as if it had no key: an answer is
worth more to a client than a refusal, and computing it twice changes nothing but the bill.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from hashlib import blake2b

import msgspec
from msgspec import Struct

from gateway.cache.sealed_store import SealedStore
from gateway.call import RetryKey
from gateway.dependencies import Dependencies
from gateway.telemetry.metrics import IdempotencyResult, Metrics
from router.errors import CacheUnavailable, IdempotencyKeyInUse, IdempotencyKeyReused
from router.ports import Store

NAMESPACE = "tt:v1:idem:"
LIFETIME_S = 86400.0
_GRACE_S = 10.0  # beyond the deadline a request may have
MAX_REPLY_BYTES = 1024 * 1024  # a longer one is not kept


class Reply(Struct, frozen=True):
    """A whole HTTP response."""

    status: int
    headers: dict[str, str]
    body: bytes
    replayed: bool = False


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What stands under a key: a request that is running, or its reply once it has a status."""

    fingerprint: bytes
    token: bytes = b""  # of the running request
    status: int | None = None
    headers: dict[str, str] = {}
    body: bytes = b""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Kept)


class Idempotency:
    """Replies by tenant and key, for a day. A request may run for `running_s` seconds before its key is free again."""

    @classmethod
    def of(cls, deps: Dependencies) -> Idempotency:
        """Over the store of a serving process."""
        return cls(deps.store, deps.seal_key("replies"), deps.metrics, deps.deadline_s + _GRACE_S)

    def __init__(self, store: Store, seal_key: bytes, metrics: Metrics, running_s: float) -> None:
        self._store = SealedStore(store, seal_key, metrics.observe_rejected)
        self._metrics, self._running_s = metrics, running_s

    async def once(self, tenant: str, retry: RetryKey, compute: Callable[[], Awaitable[Reply]]) -> Reply:
        """The kept reply, or what `compute()` brings, which is then kept; when it raises, the key is free again.

        Raises `IdempotencyKeyReused` when the key came with another request, `IdempotencyKeyInUse` while the first
        request with it is running, and what `compute` raises.
        """
        name = NAMESPACE + blake2b(f"{tenant}\0{retry.key}".encode(), digest_size=32).hexdigest()
        marker = _encoder.encode(_Kept(fingerprint=retry.fingerprint, token=secrets.token_bytes(16)))
        result = IdempotencyResult.FIRST
        try:
            if (found := await self._claim(name, marker)) is not None:
                return self._kept(found, retry)
        except CacheUnavailable:
            result = IdempotencyResult.UNAVAILABLE
        self._metrics.observe_idempotency(result)
        kept: bytes | None = None
        try:
            reply = await compute()
            if len(reply.body) <= MAX_REPLY_BYTES:
                kept = _encoder.encode(
                    _Kept(fingerprint=retry.fingerprint, status=reply.status, headers=reply.headers, body=reply.body)
                )
        finally:
            with suppress(CacheUnavailable):
                await self._store.swap(name, marker, kept, LIFETIME_S)
        return reply

    async def _claim(self, name: str, marker: bytes) -> _Kept | None:
        """What is stored; None for the first, and where it is gone again or of a form that this code does not know."""
        if await self._store.add(name, marker, self._running_s):
            return None
        found = await self._store.get(name)
        try:
            return None if found is None else _decoder.decode(found)
        except msgspec.MsgspecError:
            self._store.reject()
            return None

    def _kept(self, kept: _Kept, retry: RetryKey) -> Reply:
        if kept.fingerprint != retry.fingerprint:
            self._metrics.observe_idempotency(IdempotencyResult.REUSED)
            raise IdempotencyKeyReused(
                "this Idempotency-Key came with another request before: a new request needs a new key", retry.HEADER
            )
        if kept.status is None:
            self._metrics.observe_idempotency(IdempotencyResult.IN_USE)
            raise IdempotencyKeyInUse(
                "the first request with this Idempotency-Key is still running: try again later", retry.HEADER
            )
        self._metrics.observe_idempotency(IdempotencyResult.REPLAYED)
        return Reply(kept.status, kept.headers, kept.body, replayed=True)
