"""The decoding plan: how many samples to draw next, and when to stop. Pure functions of what has been seen so far.

With an oracle (a decisive check) the first pass ends it. Without one, the vote ends it once its leader is settled.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, comb

from router.enums import Stopped


@dataclass(frozen=True, slots=True)
class Plan:
    """What one request may spend. Sample counts; `quorum` is a probability."""

    minimum: int
    maximum: int
    oracle: bool
    quorum: float
    first_wave: int = 2
    full: bool = False  # an audited group: always drawn to the maximum, so that it is not cut short by its own outcome
    shed_at: int | None = None  # samples after which the group ends because the engines are busy


@dataclass(frozen=True, slots=True)
class Tally:
    """What has been seen: samples that ended (or failed to), and the votes of their distinct answers."""

    spent: int = 0
    verified: bool = False
    votes: tuple[int, ...] = ()  # one count for each distinct answer, largest first

    @property
    def leaders(self) -> tuple[int, int]:
        """Votes of the first and of the second answer."""
        first, second, *_ = (*self.votes, 0, 0)
        return first, second


def majority_confidence(first: int, second: int) -> float:
    """P(the leading answer is the more likely of the two), given its votes, under a uniform prior.

    Adaptive-Consistency (Aggarwal et al. 2023, arXiv 2305.11860), in closed form: the tail of Beta(first+1, second+1)
    above one half is `2^-(n+1) * sum_{j<=first} C(n+1, j)` with n = first + second.
    """
    total = first + second + 1
    return sum(comb(total, j) for j in range(first + 1)) / float(2**total)


def vote_settled(votes: tuple[int, int], remaining: int, quorum: float) -> bool:
    """Whether `remaining` further samples cannot change the winner, or are not worth drawing at this confidence."""
    first, second = votes
    if first == second:
        return False
    return first - second > remaining or majority_confidence(first, second) >= quorum


def shed(plan: Plan, in_flight: int, limit: int) -> Plan:
    """`plan` with fewer extra samples, the more the samples in flight exceed `limit`.

    Up to the limit nothing is shed; above it at least one sample, at twice the limit all but `plan.minimum`, in
    proportion between.
    """
    if in_flight <= limit or plan.minimum >= plan.maximum:
        return plan
    share = min((in_flight - limit) / limit, 1.0)
    return replace(plan, shed_at=plan.maximum - ceil(share * (plan.maximum - plan.minimum)))


def stop_reason(plan: Plan, tally: Tally) -> Stopped | None:
    """Why sampling ends now, or None to go on. A group that would go on but for the load ends as `SHED`."""
    stopped = _settled(plan, tally)
    if stopped is None and plan.shed_at is not None and tally.spent >= plan.shed_at:
        return Stopped.SHED
    return stopped


def _settled(plan: Plan, tally: Tally) -> Stopped | None:
    if tally.spent >= plan.maximum:
        return Stopped.DECISIVE if tally.verified and not plan.full else Stopped.CAP
    if plan.full or tally.spent < plan.minimum:
        return None
    if tally.verified:
        return Stopped.DECISIVE
    if not plan.oracle and vote_settled(tally.leaders, plan.maximum - tally.spent, plan.quorum):
        return Stopped.QUORUM
    return None


def next_wave(plan: Plan, tally: Tally) -> int:
    """How many samples to launch together, at least 1 while nothing stops the group, never beyond what load leaves."""
    wave = _wave(plan, tally)
    return wave if plan.shed_at is None else min(wave, plan.shed_at - tally.spent)


def _wave(plan: Plan, tally: Tally) -> int:
    """How many samples to launch together.

    The first wave is small. After it, with an oracle, all the rest: its first pass cancels the others. Without one,
    just as many as could settle the vote if they all agreed with the leader. An escalated single sample counts as
    spent and is followed by a small wave first.
    """
    remaining = plan.maximum - tally.spent
    if plan.full:
        return remaining
    if tally.spent == 0:
        return min(max(plan.first_wave, plan.minimum), remaining)
    short_of_minimum = max(plan.minimum - tally.spent, 1)
    if plan.oracle:
        return remaining if tally.spent >= plan.first_wave else min(max(plan.first_wave, short_of_minimum), remaining)
    first, second = tally.leaders
    for size in range(short_of_minimum, remaining):
        if vote_settled((first + size, second), remaining - size, plan.quorum):
            return size
    return remaining
