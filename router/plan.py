"""The decoding plan: how many samples to draw next, and when to stop. Pure functions of what has been seen so far.

With an oracle (a decisive check) the first pass ends it. Without one, the vote ends it once its leader is settled.
Where the operator has put a price on a solved task and a calibrated belief is at hand, both end as soon as no further
sample is worth its cost (`router.stopping`).
"""

from __future__ import annotations

from math import ceil, comb

from msgspec import Struct
from msgspec.structs import replace

from router.enums import Stopped
from router.stopping import JEFFREYS, PassRate, Seen, VoteBelief, paying_batch, wave_ends, worthwhile

WASTE = 0.1  # samples that waves may cost with an oracle, as a share of those that one at a time would draw


class Plan(Struct, frozen=True):
    """What one request may spend, and what is believed of its prompt. Sample counts; `quorum` is a probability."""

    minimum: int
    maximum: int
    oracle: bool
    quorum: float
    belief: PassRate = JEFFREYS
    voting: VoteBelief | None = None  # what the vote is weighed with; None without a calibration
    worth: float | None = None  # of a solved task, in samples; None: no price limits the group
    full: bool = False  # an audited group: always drawn to the maximum, so that it is not cut short by its own outcome
    shed_at: int | None = None  # samples after which the group ends because the engines are busy

    @property
    def payable(self) -> int:
        """The most samples that an oracle may see fail: more are not worth their cost."""
        if self.worth is None:
            return self.maximum
        return max(worthwhile(self.belief, self.maximum, self.worth), self.minimum)


class Tally(Struct, frozen=True):
    """What has been seen: samples that ended (or failed to), and the votes of their distinct answers."""

    spent: int = 0
    verified: bool = False
    votes: tuple[int, ...] = ()  # one count for each distinct answer, largest first
    evidence: tuple[float, ...] = ()  # of each of them: likelihood ratio, right against wrong; () says nothing

    @property
    def seen(self) -> Seen:
        """The vote as `router.stopping` reads it."""
        return Seen(self.votes, self.evidence or (1.0,) * len(self.votes), self.spent)

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
    if plan.oracle:
        return Stopped.HOPELESS if tally.spent >= plan.payable else None
    if plan.voting is not None and plan.worth is not None:
        return _worthless(plan.voting, plan.worth, tally, plan.maximum - tally.spent)
    return Stopped.QUORUM if vote_settled(tally.leaders, plan.maximum - tally.spent, plan.quorum) else None


def _worthless(belief: VoteBelief, worth: float, tally: Tally, remaining: int) -> Stopped | None:
    """Why no further votes are worth their cost: the leader is likely right as it is, or no answer will be."""
    more, confidence = paying_batch(belief, tally.seen, remaining, worth)
    if more:
        return None
    return Stopped.QUORUM if confidence >= 0.5 else Stopped.HOPELESS


def next_wave(plan: Plan, tally: Tally) -> int:
    """How many samples to launch together, at least 1 while nothing stops the group, never beyond what load leaves."""
    wave = _wave(plan, tally)
    return wave if plan.shed_at is None else min(wave, plan.shed_at - tally.spent)


def _wave(plan: Plan, tally: Tally) -> int:
    """How many samples to launch together.

    With an oracle, as many as leave the waste of the samples that its first pass makes needless at `WASTE` of what one
    at a time would draw. Without one, just as many as could pay for themselves together or, without a price, as could
    settle the vote if they all agreed with the leader.
    """
    remaining = plan.maximum - tally.spent
    if plan.full:
        return remaining
    least = max(plan.minimum - tally.spent, 1)
    if plan.oracle:
        return max(_oracle_wave(plan, tally.spent), least)
    if plan.voting is not None and plan.worth is not None:
        return max(paying_batch(plan.voting, tally.seen, remaining, plan.worth)[0], least)
    first, second = tally.leaders
    for size in range(least, remaining):
        if vote_settled((first + size, second), remaining - size, plan.quorum):
            return size
    return remaining


def _oracle_wave(plan: Plan, spent: int) -> int:
    """To the end of the wave that `spent` samples are in: one drawn alone and escalated may lie inside the first."""
    most = max(plan.payable, spent + 1)
    return next(end for end in wave_ends(plan.belief, most, WASTE) if end > spent) - spent
