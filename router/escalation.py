"""A last sample of a second, larger model: what it can add to an answer, and what its word weighs in a vote. Pure."""

from __future__ import annotations

from math import log

from router.enums import Stopped
from router.plan import Plan, Tally

_UNSETTLED = (Stopped.CAP, Stopped.HOPELESS)


def gained(plan: Plan, tally: Tally, stopped: Stopped, chance: float) -> float:
    """What the larger model's sample adds to the chance that the returned answer is right; 0 where it is not asked.

    `chance` is how likely it solves what the policy's own samples did not. With an oracle that is all of it. Of a vote
    that ended below its quorum, it is what the larger model is likelier to be right than its leader, which only a
    calibration can say. A group that was settled, cut short or drawn for an audit is left as it is.
    """
    alone = stopped is Stopped.SINGLE and plan.oracle and plan.maximum == 1
    if tally.verified or plan.full or not (alone or stopped in _UNSETTLED):
        return 0.0
    if plan.oracle:
        return chance
    if plan.voting is None or (confidence := plan.voting.confidence(tally.seen)) >= plan.quorum:
        return 0.0
    return max(chance - confidence, 0.0)


def log_odds(chance: float) -> float:
    """The weight of the larger model's answer beside calibrated votes: it is no draw of the policy, and counts as none.

    The chance that a wrong answer of it is this one is taken to be 1, so that its word is never overrated.
    """
    return log(chance / (1.0 - chance))
