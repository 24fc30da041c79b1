"""A share of verified answers is read by a second verifier, beside the requests: would another oracle accept them?

A second verifier never rewards and never takes a verdict back. Where it disagrees the group gets a label that says
nothing of the outcome: it asks a person to look.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.telemetry.metrics import Metrics
from gateway.telemetry.trust_families import Audit
from router.domain import Candidate, CheckResult, CheckSpec
from router.enums import Outcome
from router.errors import VerifierUnavailable
from router.log.labels import Label, LabelSource
from router.ports import Verifier
from router.verify.versions import other_version

_WAITING = 32  # answers that may wait; more are not looked at
_PAUSE_S = 0.1  # before each: the response goes first, and the workers are the requests'
_VERDICTS = {Outcome.PASS: Audit.AGREE, Outcome.FAIL: Audit.DISAGREE}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Accepted:
    group_id: str
    tenant: str
    checks: Sequence[CheckSpec]  # those that passed, by their other verifiers
    text: str


class Audits:
    """Takes verified answers without waiting and has them read one at a time, while a verification worker is idle."""

    def __init__(
        self,
        verifier: Verifier,
        metrics: Metrics,
        append: Callable[[Label], None],
        share: float,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._verifier, self._metrics, self._append = verifier, metrics, append
        self._share, self._draw = share, draw
        self._accepted: asyncio.Queue[_Accepted] = asyncio.Queue(_WAITING)

    def offer(self, group_id: str, tenant: str, checks: Sequence[CheckSpec], winner: Candidate) -> None:
        """Have a verified answer read again, if it is drawn, a second verifier is there for it and there is room."""
        passed = {result.id for result in winner.checks if result.outcome is Outcome.PASS}
        seconds = [second for each in checks if each.id in passed and (second := other_version(each)) is not None]
        if not winner.verdict.verified or not seconds or self._draw() >= self._share:
            return
        if self._accepted.full():
            self._count(seconds, Audit.DROPPED)
        else:
            self._accepted.put_nowait(_Accepted(group_id, tenant, seconds, winner.sample.text))

    async def run(self) -> None:
        """Read what was offered, until cancelled."""
        while True:
            accepted = await self._accepted.get()
            await asyncio.sleep(_PAUSE_S)
            if self._verifier.idle():
                await self._read(accepted)
            else:
                self._count(accepted.checks, Audit.DROPPED)

    async def _read(self, accepted: _Accepted) -> None:
        try:
            results = await self._verifier.verify(accepted.checks, accepted.text)
        except VerifierUnavailable:
            self._count(accepted.checks, Audit.ERROR)
            return
        for result in results:
            verdict = _VERDICTS.get(result.outcome, Audit.ERROR)
            self._metrics.observe_audit(result.type, verdict, result.ms / 1000)
            if verdict is Audit.DISAGREE:
                await self._ask_for_review(accepted, result)

    async def _ask_for_review(self, accepted: _Accepted, result: CheckResult) -> None:
        _log.warning(
            "%s of version %s does not accept what another version accepted in group %s",
            result.type,
            result.version,
            accepted.group_id,
        )
        label = Label(
            group_id=accepted.group_id,
            at=time.time(),
            source=LabelSource.AUDIT,
            tenant=accepted.tenant,
            author=f"{result.type}@{result.version}",
            note=f"Version {result.version} of {result.type} does not accept the answer, another version does.",
        )
        try:
            await asyncio.to_thread(self._append, label)
        except OSError as error:
            _log.error("the audit of group %s could not be noted: %s", accepted.group_id, error.strerror)

    def _count(self, seconds: Sequence[CheckSpec], result: Audit) -> None:
        for check in seconds:
            self._metrics.observe_audit(check.type, result)
