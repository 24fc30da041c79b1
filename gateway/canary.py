"""A canary in this process: which requests it serves, how its answers fare, and its end when they do harm."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from uuid import uuid4

from gateway.policies import PolicyDirectory, ResolvedPolicy
from router.canary import HARM_ALPHA, Counts, Tally, read_counts, save_counts
from router.domain import Verification
from router.enums import Status
from router.errors import PolicyConflict
from router.registry import PolicyRegistry

_JUDGED = (Status.VERIFIED, Status.FAILED)

_log = logging.getLogger(__name__)


class CanaryWatch:
    """Counts the judged answers of champion and canary while there is one; the watcher calls `follow`."""

    def __init__(self, registry: PolicyRegistry, policies: PolicyDirectory, state_dir: Path) -> None:
        self._registry, self._policies, self._state_dir = registry, policies, state_dir
        self._process = uuid4().hex
        self._epoch: int | None = None
        self._tally, self._saved = Tally(), Counts()

    def observe(self, policy: ResolvedPolicy, verification: Verification, prompt_hash: str) -> None:
        """Take note of an answer to a request for the champion that its checks judged."""
        canary = self._policies.canary
        if canary is None or not policy.shared or verification.status not in _JUDGED:
            return
        own = verification.policy == policy.name  # a larger model solved what the policy did not
        solved = verification.status is Status.VERIFIED and own
        self._tally.add(prompt_hash, canary=policy.name == canary.policy, solved=solved)

    async def follow(self) -> None:
        """Share what was counted, and withdraw the canary when all processes together show harm.

        Raises `RegistryError` or `OSError` when the state directory cannot be read or written.
        """
        canary, epoch = self._policies.canary, self._policies.epoch
        if epoch != self._epoch:
            self._epoch, self._tally, self._saved = epoch, Tally(), Counts()
        if canary is None:
            return
        if self._tally.counts != self._saved:
            counts = self._tally.counts
            await asyncio.to_thread(save_counts, self._state_dir, epoch, self._process, counts)
            self._saved = counts
        found = await asyncio.to_thread(read_counts, self._state_dir, epoch)
        if not found.harmful:
            return
        why = (
            f"{canary.policy} did harm: the champion won {found.worse} differing pairs and lost {found.better}, "
            f"an e-value above {1 / HARM_ALPHA:.0f}; it solved {found.canary_solved} of {found.canary}, "
            f"the champion {found.champion_solved} of {found.champion}"
        )
        _log.error("%s: it is withdrawn", why)
        try:
            await asyncio.to_thread(self._registry.rollback, why, "gateway", epoch)
        except PolicyConflict:  # another process was first, or an operator
            return
        await self._policies.follow()
