"""The answer cache as the service uses it: only verified answers in, exact keys, and a store that fails is a miss."""

from __future__ import annotations

import time

from gateway.answer import Answer, Concluded, Prepared
from gateway.group_record import check_record
from gateway.metrics import CacheResult, Metrics
from gateway.scorecard import Scorecard
from router.cache_key import cache_key
from router.domain import CheckResult, Tokens, Verification
from router.enums import CheckClass, Route, Status
from router.errors import CacheUnavailable
from router.ports import AnswerCache
from router.records import CachedAnswer


class VerifiedAnswers:
    """Finds and keeps verified answers."""

    def __init__(self, cache: AnswerCache, metrics: Metrics, scorecard: Scorecard) -> None:
        self._cache, self._metrics, self._scorecard = cache, metrics, scorecard

    async def find(self, prepared: Prepared) -> Answer | None:
        """The verified answer to this very request, or None."""
        if not prepared.cacheable:
            self._metrics.observe_cache(CacheResult.BYPASS)
            return None
        key, digest = _key(prepared)
        try:
            stored = await self._cache.get(key)
        except CacheUnavailable:
            self._metrics.observe_cache(CacheResult.ERROR)
            return None
        hit = stored is not None and stored.key_digest == digest
        self._metrics.observe_cache(CacheResult.HIT if hit else CacheResult.MISS)
        self._scorecard.record_lookup(hit)
        return _answer(stored, prepared) if stored is not None and hit else None

    async def keep(self, prepared: Prepared, concluded: Concluded) -> None:
        """Store the answer if it is verified; a store that fails costs only the next request its hit."""
        if not prepared.cacheable or concluded.verification.status is not Status.VERIFIED:
            return
        key, digest = _key(prepared)
        try:
            await self._cache.put(key, _entry(digest, prepared, concluded))
        except CacheUnavailable:
            self._metrics.observe_cache(CacheResult.ERROR)


def _key(prepared: Prepared) -> tuple[str, bytes]:
    return cache_key(
        tenant=prepared.call.tenant.name,
        policy=prepared.policy.name,
        epoch=prepared.policy.epoch,
        prompt=prepared.call.prompt,
        verification=prepared.call.spec,
    )


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


def _answer(stored: CachedAnswer, prepared: Prepared) -> Answer:
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
