"""A share of cache hits is checked again, beside the requests: does what was verified once still verify?"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.cache.verified_answers import CacheKey, VerifiedAnswers
from gateway.telemetry.metrics import Metrics, Recheck
from router.domain import CheckResult, CheckSpec, content_text, shown_text
from router.enums import CheckClass, Outcome
from router.errors import VerifierUnavailable
from router.ports import Verifier
from router.records import CachedAnswer
from router.verify.composite import compose

_WAITING = 32  # hits that may wait; more are not looked at
_PAUSE_S = 0.1  # before each: the response goes first, and the workers are the requests'

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Hit:
    key: CacheKey
    checks: Sequence[CheckSpec]
    stored: CachedAnswer


class Rechecks:
    """Takes hits without waiting and checks them one at a time, while a verification worker is idle.

    A hit that no longer verifies is removed. An error of our own proves nothing, and the answer stays.
    """

    def __init__(
        self,
        verifier: Verifier,
        verified: VerifiedAnswers,
        metrics: Metrics,
        share: float,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._verifier, self._verified, self._metrics = verifier, verified, metrics
        self._share, self._draw = share, draw
        self._hits: asyncio.Queue[_Hit] = asyncio.Queue(_WAITING)

    def offer(self, key: CacheKey, checks: Sequence[CheckSpec], stored: CachedAnswer) -> None:
        """Have a hit checked again, if it is drawn and there is room."""
        if self._draw() >= self._share:
            return
        if self._hits.full():
            self._metrics.observe_recheck(Recheck.DROPPED)
        else:
            self._hits.put_nowait(_Hit(key, checks, stored))

    async def run(self) -> None:
        """Check what was offered, until cancelled."""
        while True:
            hit = await self._hits.get()
            await asyncio.sleep(_PAUSE_S)
            self._metrics.observe_recheck(await self._look_at(hit) if self._verifier.idle() else Recheck.DROPPED)

    async def _look_at(self, hit: _Hit) -> Recheck:
        try:
            verdict = compose(await self._results(hit), hit.checks)
        except VerifierUnavailable:
            return Recheck.ERROR
        if verdict.verified:
            return Recheck.AGREE
        if verdict.outcome is not Outcome.FAIL:
            return Recheck.ERROR
        _log.warning("the cached answer of group %s no longer verifies: removed", hit.stored.group_id)
        await self._verified.forget(hit.key)
        return Recheck.DISAGREE

    async def _results(self, hit: _Hit) -> tuple[CheckResult, ...]:
        """What the checks say now, each of what it read at first: a veto of all that the client sees."""
        vetoes = [check for check in hit.checks if check.klass is CheckClass.VETO]
        others = [check for check in hit.checks if check.klass is not CheckClass.VETO]
        message = hit.stored.message
        results = await self._verifier.verify(others, content_text(message.get("content")))
        return (*results, *(await self._verifier.verify(vetoes, shown_text(message)) if vetoes else ()))
