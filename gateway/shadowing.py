"""Shadow traffic: a candidate answers some of the champion's prompts as well, after their clients were answered.

Its answers are checked alike and go to the group log and the metrics, under a purpose of their own, and to nobody else.
"""

from __future__ import annotations

import asyncio
import logging

from msgspec.structs import replace

from gateway.answer import Prepared
from gateway.call import ChatCall, Replayed
from gateway.dependencies import Dependencies
from gateway.service import AnswerService
from router.enums import Purpose
from router.errors import NotAnswered, ThinkTwiceError
from router.heldout import place_of, prompt_hash
from router.settings import ShadowSection

_WAITING = 32  # prompts that may wait; more are not answered

_log = logging.getLogger(__name__)


class Shadowing:
    """Takes prompts without waiting and has them answered one at a time, unless the engines are busy."""

    def __init__(self, service: AnswerService, dependencies: Dependencies, section: ShadowSection) -> None:
        self._service, self._deps, self._section = service, dependencies, section
        self._waiting: asyncio.Queue[ChatCall] = asyncio.Queue(_WAITING)
        self._faults: set[str] = set()

    def offer(self, prepared: Prepared) -> None:
        """Have a prompt that the champion answered answered again, if it is one of the share and there is room.

        The share is of the other end of the hash than a canary's: as long as both fit, they take different prompts.
        """
        call, deps = prepared.call, self._deps
        ordinary = call.purpose is Purpose.PROD and prepared.policy.shared and call.n == 1
        if not ordinary or prepared.policy.name != deps.policies.champion or self._waiting.full():
            return
        if place_of(prompt_hash(call.prompt.messages, deps.salt)) >= 1.0 - self._section.share:
            self._waiting.put_nowait(self._shadow(call, prepared.group_id))

    async def run(self) -> None:
        """Answer what was offered, until cancelled."""
        while True:
            call = await self._waiting.get()
            if self._deps.in_flight() <= self._deps.shed_inflight:
                await self._answer(call)

    def _shadow(self, call: ChatCall, group_id: str) -> ChatCall:
        return replace(
            call,
            model=self._section.policy,
            purpose=Purpose.SHADOW,
            replayed=Replayed(group_id, call.tenant.name),
            stream=False,
            retry_key=None,
        )

    async def _answer(self, call: ChatCall) -> None:
        try:
            await self._service.answer(await self._service.prepare(call))
        except NotAnswered:  # withheld by `on_failure`: it was drawn, judged and logged
            return
        except ThinkTwiceError as error:
            if str(error) not in self._faults:
                self._faults.add(str(error))
                _log.warning("%s cannot answer beside the champion: %s", self._section.policy, error)
