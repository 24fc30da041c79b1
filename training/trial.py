"""The trial of a candidate that the gate let pass: a canary of growing share, before it serves everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from router.canary import read_counts
from router.errors import TrainingError
from router.policy_history import Action, HistoryEntry
from router.registry import PolicyRegistry


@dataclass(frozen=True, slots=True)
class OnTrial:
    """A canary that serves, and how many of its answers were judged of those that this share needs."""

    policy: str
    share: float
    judged: int
    needed: int


@dataclass(frozen=True, slots=True)
class Trial:
    """The shares that a candidate serves in turn, each until `answers` of its answers were judged. None: no trial."""

    shares: Sequence[float]
    answers: int
    state_dir: Path

    def step(self, registry: PolicyRegistry, policy: str, since: int, reason: str, actor: str) -> OnTrial | str | None:
        """Begin the trial of `policy`, go on with it, or say how it ended: None when it may serve, or why it may not.

        `since` is the champion's epoch when the candidate was made; the registry alone remembers how far it has come.
        Raises `TrainingError` while another canary serves, `RegistryError`.
        """
        champion = registry.champion()
        tried = [entry for entry in registry.history() if entry.epoch > since and _of_trial(entry, policy)]
        if champion.canary is None:
            if tried:
                return tried[-1].reason or f"{policy} was withdrawn"
            shares = list(self.shares)
        elif champion.canary.policy != policy:
            raise TrainingError(
                f"{champion.canary.policy} is on trial: {policy} waits until it is promoted or withdrawn"
            )
        else:
            share = champion.canary.share
            judged = read_counts(self.state_dir, champion.epoch).canary
            if judged < self.answers:
                return OnTrial(policy, share, judged, self.answers)
            shares = [each for each in self.shares if each > share]
        if not shares:
            return None
        registry.try_out(policy, shares[0], reason, actor, champion.epoch)
        return OnTrial(policy, shares[0], 0, self.answers)


def _of_trial(entry: HistoryEntry, policy: str) -> bool:
    return (entry.action is Action.CANARY and entry.policy == policy) or (
        entry.action is Action.WITHDRAW and entry.previous == policy
    )
