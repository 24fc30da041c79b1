"""The answer cache as the service uses it: only verified answers in, exact keys, and a store that fails is a miss."""

from __future__ import annotations

import random
import time
from contextlib import suppress

from msgspec import Struct

from gateway.answer import Answer, Concluded, Prepared
from gateway.cache.sealed_store import SealedStore
from gateway.group_record import check_record
from gateway.telemetry.metrics import CacheResult, Metrics
from gateway.telemetry.scorecard import Scorecard
from router.cache_key import cache_key
from router.domain import CheckResult, Tokens, Verification
from router.enums import CheckClass, Route, Status
from router.errors import CacheUnavailable, RecordError
from router.ports import Store
from router.record_codec import decode_answer, encode
from router.records import CachedAnswer

NAMESPACE = "tt:v1:"


class CacheKey(Struct, frozen=True):
    """Where a request's answer is stored, and the 32-byte digest that the stored answer must name."""

    name: str
    digest: bytes


class VerifiedAnswers:
    """Finds and keeps verified answers. They live `ttl_s` seconds, give or take 10 %, so that they do not end at once.

    `key` seals them: gateways that share a store share it (`SealedStore`).
    """

    def __init__(self, store: Store, key: bytes, metrics: Metrics, scorecard: Scorecard, ttl_s: float) -> None:
        self._store = SealedStore(store, key, metrics.observe_rejected)
        self._metrics, self._scorecard, self._ttl_s = metrics, scorecard, ttl_s

    def key(self, prepared: Prepared) -> CacheKey | None:
        """The key of a request, None for one that bypasses the cache. Hashes the whole request: once is enough."""
        if not prepared.cacheable:
            self._metrics.observe_cache(CacheResult.BYPASS)
            return None
        name, digest = cache_key(
            tenant=prepared.call.tenant.name,
            policy=prepared.policy.name,
            epoch=prepared.policy.epoch,
            prompt=prepared.call.prompt,
            verification=prepared.call.spec,
        )
        return CacheKey(NAMESPACE + name, digest)

    async def find(self, key: CacheKey) -> CachedAnswer | None:
        """The verified answer to this very request, or None."""
        try:
            stored = await self.peek(key)
        except CacheUnavailable:
            self._metrics.observe_cache(CacheResult.ERROR)
            return None
        self._metrics.observe_cache(CacheResult.MISS if stored is None else CacheResult.HIT)
        self._scorecard.record_lookup(stored is not None)
        return stored

    async def peek(self, key: CacheKey) -> CachedAnswer | None:
        """As `find`, uncounted. Raises `CacheUnavailable`."""
        data = await self._store.get(key.name)
        if data is None:
            return None
        try:
            stored = decode_answer(data)
        except RecordError:
            stored = None
        if stored is None or stored.key_digest != key.digest:
            self._store.reject()
            return None
        return stored

    async def forget(self, key: CacheKey) -> None:
        """Remove the answer; with a store that fails it stays until a recheck finds it again."""
        with suppress(CacheUnavailable):
            await self._store.remove(key.name)

    async def keep(self, key: CacheKey, prepared: Prepared, concluded: Concluded) -> CachedAnswer | None:
        """Store the answer if it is verified, and return what was stored.

        A store that fails costs only the next request its hit.
        """
        if concluded.verification.status is not Status.VERIFIED:
            return None
        entry = _entry(key.digest, prepared, concluded)
        try:
            await self._store.put(key.name, encode(entry), self._ttl_s * random.uniform(0.9, 1.1))
        except CacheUnavailable:
            self._metrics.observe_cache(CacheResult.ERROR)
        return entry


def _entry(digest: bytes, prepared: Prepared, concluded: Concluded) -> CachedAnswer:
    verification, sample = concluded.verification, concluded.ballot.winner.sample
    specs = {spec.id: spec for spec in prepared.call.spec.checks}
    return CachedAnswer(
        key_digest=digest,
        status=verification.status,
        message=dict(sample.message),
        finish_reason=sample.finish_reason or "stop",
        reason=verification.reason,
        samples=verification.samples,
        votes=verification.votes,
        agreement=verification.agreement,
        difficulty=verification.difficulty,
        score=verification.score,
        checks=tuple(check_record(result, specs[result.id]) for result in verification.checks),
        group_id=verification.group_id,
        policy=verification.policy,
        profile=verification.profile,
        created_at=time.time(),
        stopped=verification.stopped,
    )


def cached_answer(stored: CachedAnswer, prepared: Prepared) -> Answer:
    """The stored answer with its own evidence; it costs nothing now."""
    verification = Verification(
        status=stored.status,
        reason=stored.reason,
        route=Route.CACHE,
        escalated=False,
        samples=stored.samples,
        votes=stored.votes,
        agreement=stored.agreement,
        difficulty=stored.difficulty,
        stopped=stored.stopped,
        profile=prepared.call.spec.profile,
        score=stored.score,
        checks=tuple(
            CheckResult(c.id, c.type, CheckClass(c.klass), c.outcome, c.score, c.ms, c.version) for c in stored.checks
        ),
        group_id=stored.group_id,
        policy=stored.policy,
        cost_usd=0.0,
        cached=True,
    )
    return Answer(verification, stored.message, stored.finish_reason, Tokens())
