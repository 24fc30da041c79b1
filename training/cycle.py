"""One cycle of `thinktwice train --if-due`: train when enough is new, judge, promote or hold, write it down.

Every step is on disk before the next begins, so that a process killed at any point leaves serving as it was or flipped
as a whole, and the next run goes on where this one ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from msgspec.structs import replace

from router.errors import ThinkTwiceError, TrainingError
from router.log.groups import Span
from router.policy_history import Action
from router.registry import Policy, PolicyRegistry
from training.gate import Verdict
from training.ledger import Consumed, Cycle, Exit, Ledger
from training.trial import OnTrial, Trial

ACTOR = "train"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the evaluation found; see `training.gate`."""

    verdict: Verdict
    why: str
    n01: int
    n10: int
    pairs: int
    p: float
    mde: float | None


@dataclass(frozen=True, slots=True)
class NewGroups:
    """What the log holds for a cycle."""

    number: int  # of trainable groups that no cycle has read
    drops: Mapping[str, int]  # groups by the reason why they cannot train, and damage


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run made of what it read. The policy may have been there: the same adapter keeps its name."""

    policy: str
    groups: int  # trained on
    drops: Mapping[str, int]  # groups by reason
    positions: Sequence[Span]  # what it read of the log


@dataclass(frozen=True, slots=True)
class Ports:
    """What a cycle asks others to do."""

    new_groups: Callable[[Consumed], NewGroups]  # but those that were read before
    train: Callable[[str], Trained]  # for the cycle of this id
    evaluate: Callable[[Policy, str | None], Judgement]  # candidate against champion (None: the base model)


@dataclass(frozen=True, slots=True)
class NotDue:
    """Why nothing was done."""

    new: NewGroups
    needed: int


@dataclass(frozen=True, slots=True)
class CycleRunner:
    """Runs a cycle, or the rest of one. The caller holds the trainers' lock."""

    registry: PolicyRegistry
    ledger: Ledger
    ports: Ports
    due_groups: int
    trial: Trial
    clock: Callable[[], float] = time.time

    def run(self) -> Cycle | OnTrial | NotDue:
        """The finished cycle, how far the trial of its policy is, or why there was none.

        Raises `TrainingError` when training failed (the ledger says so) or when the candidate could not be judged now
        (the next run judges it); `RegistryError`, `OSError`.
        """
        cycle = self._unfinished()
        if cycle is None:
            new = self.ports.new_groups(self.ledger.consumed())
            if new.number < self.due_groups:
                return NotDue(new, self.due_groups)
            cycle = self._train()
        if cycle.verdict is None:
            if changed := self._champion_changed(cycle):
                return self._finish(cycle, Exit.DROPPED, changed)
            if known := self._judged_before(cycle):
                return self._finish(cycle, Exit.HELD, known)
            cycle = self._judge(cycle)
        return self._settle(cycle)

    def _unfinished(self) -> Cycle | None:
        """The cycle that a process before this one left with a registered policy."""
        cycle = self.ledger.unfinished()
        if cycle is None or cycle.policy is not None:
            return cycle
        made = (policy for policy in self.registry.policies() if policy.manifest.get("cycle") == cycle.id)
        policy = next(made, None)
        return None if policy is None else self._registered(cycle, _as_registered(policy))

    def _train(self) -> Cycle:
        """A cycle with a new policy."""
        cycle = Cycle(str(uuid4()), self.registry.champion().epoch)
        self.ledger.begin(cycle)
        seconds: dict[str, float] = {}
        try:
            with _timed(seconds, "train"):
                trained = self.ports.train(cycle.id)
        except (ThinkTwiceError, OSError) as error:
            self._finish(replace(cycle, seconds=seconds), Exit.FAILED, str(error))
            raise TrainingError(f"training failed: {error}: serving is as it was") from error
        return self._registered(replace(cycle, seconds=seconds), trained)

    def _registered(self, cycle: Cycle, trained: Trained) -> Cycle:
        """The cycle with its candidate, which is judged from now on whatever happens."""
        manifest = self.registry.get(trained.policy).manifest
        cycle = replace(
            cycle,
            policy=trained.policy,
            parent=manifest["parent"],
            groups=trained.groups,
            drops=dict(trained.drops),
            last_group=manifest["data"]["last_group"],
            last_group_at=manifest["data"]["to"],
        )
        # A new policy's folder holds what it was made of, so a process killed before this line loses neither.
        self.ledger.save(cycle, trained.positions)
        return cycle

    def _judged_before(self, cycle: Cycle) -> str | None:
        """That this policy was judged by an earlier cycle: to look again would be another chance at `alpha`."""
        verdicts = (Verdict.PROMOTE, Verdict.HOLD)
        same = (each for each in self.ledger.cycles() if (each.policy, each.parent) == (cycle.policy, cycle.parent))
        found = next((each for each in same if each.verdict in verdicts), None)
        if found is None:
            return None
        return f"the new groups changed nothing: {found.policy} again, which was judged: {found.why}"

    def _judge(self, cycle: Cycle) -> Cycle:
        assert cycle.policy is not None  # it is registered before it is judged
        candidate, seconds = self.registry.get(cycle.policy), dict(cycle.seconds)
        try:
            with _timed(seconds, "evaluate"):
                found = self.ports.evaluate(candidate, cycle.parent)
        except TrainingError as error:
            raise TrainingError(f"{error}; {candidate.name} stays pending: the next run judges it") from error
        cycle = replace(
            cycle,
            verdict=found.verdict,
            why=found.why,
            n01=found.n01,
            n10=found.n10,
            pairs=found.pairs,
            p=found.p,
            mde=found.mde,
            seconds=seconds,
        )
        self.ledger.save(cycle)
        return cycle

    def _settle(self, cycle: Cycle) -> Cycle | OnTrial:
        """Do what the verdict says. A flip that a killed process made is not made twice, nor after a rollback."""
        if cycle.verdict is not Verdict.PROMOTE:
            return self._finish(cycle, Exit.HELD, cycle.why)
        if not self._promoted(cycle):
            epoch = self.registry.champion().epoch  # before the looks that follow: what they see is what is replaced
            if changed := self._champion_changed(cycle):
                return self._finish(cycle, Exit.DROPPED, changed)
            assert cycle.policy is not None  # it was judged
            tried = self.trial.step(self.registry, cycle.policy, cycle.epoch, cycle.why, ACTOR)
            if isinstance(tried, OnTrial):
                return tried
            if tried is not None:
                return self._finish(cycle, Exit.WITHDRAWN, tried)
            self.ledger.save(cycle)  # refused to a trainer that has lost its lock
            self.registry.promote(cycle.policy, cycle.why, ACTOR, expected_epoch=epoch)
        return self._finish(cycle, Exit.PROMOTED, cycle.why)

    def _promoted(self, cycle: Cycle) -> bool:
        since = (entry for entry in self.registry.history() if entry.epoch > cycle.epoch)
        return any(entry.action is Action.PROMOTE and entry.policy == cycle.policy for entry in since)

    def _champion_changed(self, cycle: Cycle) -> str | None:
        champion = self.registry.champion().policy
        if champion == cycle.parent:
            return None
        was, now = cycle.parent or "the base model", champion or "the base model"
        return f"the champion changed from {was} to {now} since {cycle.policy} was trained"

    def _finish(self, cycle: Cycle, how: Exit, why: str) -> Cycle:
        ended = replace(cycle, exit=how, why=why, ts=self.clock())
        self.ledger.finish(ended)
        return ended


def _as_registered(policy: Policy) -> Trained:
    data: Any = policy.manifest["data"]
    positions = [Span(*each) for each in data.get("positions", ())]
    return Trained(policy.name, data["groups"], data["dropped_groups"], positions)


@contextmanager
def _timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    started = time.perf_counter()
    try:
        yield
    finally:
        seconds[phase] = round(time.perf_counter() - started, 3)
