"""The policies that ours is compared with: fixed counts, and the stopping rules and weightings of the literature."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from router.domain import MAX_SAMPLES, Candidate
from router.plan import majority_confidence
from router.simulation.problem import Problem
from router.simulation.replay import Replay, Replayed, Run, finished

AC_THRESHOLD = 0.95  # of the paper
ESC_WINDOW = 2  # windows of the paper are larger; two is what fits into five samples more than once
_TAIL_TOKENS = 2048  # DeepConf's tail; of short traces the last quarter


def always(count: int) -> Replayed:
    """So many samples at once, then the vote."""

    def play(problem: Problem) -> Run:
        replay = Replay(problem)
        replay.wave(count)
        return finished(replay)

    return play


def one_at_a_time(problem: Problem) -> Run:
    """Single samples until one passes its check: the fewest samples, in the most waves."""
    replay = Replay(problem)
    while len(replay.ended) < MAX_SAMPLES and not replay.tally.verified:
        replay.wave(1)
    return finished(replay)


def adaptive_consistency(problem: Problem) -> Run:
    """Single samples until the vote's leader is in front for good with probability `AC_THRESHOLD`.

    Aggarwal et al. 2023, arXiv 2305.11860, with its Beta criterion.
    """
    replay = Replay(problem)
    while len(replay.ended) < MAX_SAMPLES:
        replay.wave(1)
        if majority_confidence(*replay.tally.leaders) >= AC_THRESHOLD:
            break
    return finished(replay)


def early_stopping_consistency(problem: Problem) -> Run:
    """Windows of samples until one is unanimous (ESC, Li et al. 2024, arXiv 2401.10480)."""
    replay = Replay(problem)
    while len(replay.ended) < MAX_SAMPLES:
        before = len(replay.ended)
        replay.wave(min(ESC_WINDOW, MAX_SAMPLES - before))
        window = {candidate.answer_key for candidate in replay.ended[before:]}
        if len(window) == 1 and None not in window and len(replay.ended) - before == ESC_WINDOW:
            break
    return finished(replay)


def deepconf(problem: Problem) -> Run:
    """All samples, each vote weighed by the mean log-probability of its tail (DeepConf, Fu et al. 2025, 2508.15260).

    The confidence of a token is its own log-probability, not that of the top candidates, which is not recorded; no
    trace is filtered, since there are five and not five hundred.
    """
    replay = Replay(problem)
    replay.wave(MAX_SAMPLES)
    weights: defaultdict[str, float] = defaultdict(float)
    lowest = min(map(_tail, replay.ended))
    for candidate in replay.ended:
        if candidate.answer_key is not None:
            weights[candidate.answer_key] += _tail(candidate) - lowest + 1.0
    if not weights:
        return finished(replay)
    leader = max(weights, key=lambda key: weights[key])
    return replay.run(next(candidate for candidate in replay.ended if candidate.answer_key == leader))


def oracle(problem: Problem) -> Run:
    """The cheapest count whose vote is right, drawn at once; one sample where none is. No policy can know it."""
    runs = [always(count)(problem) for count in range(1, MAX_SAMPLES + 1)]
    return next((run for run in runs if run.solved), runs[0])


def _tail(candidate: Candidate) -> float:
    logprobs = [value for value in candidate.sample.logprobs or () if value is not None]
    tail = logprobs[-min(_TAIL_TOKENS, max(len(logprobs) // 4, 1)) :]
    return sum(tail) / len(tail) if tail else 0.0


CHECKED: Mapping[str, Replayed] = {
    **{f"always-{count}": always(count) for count in range(1, MAX_SAMPLES + 1)},
    "one at a time": one_at_a_time,
    "oracle": oracle,
}
VOTED: Mapping[str, Replayed] = {
    **{f"always-{count}": always(count) for count in range(1, MAX_SAMPLES + 1)},
    "Adaptive-Consistency": adaptive_consistency,
    "ESC": early_stopping_consistency,
    "DeepConf weighting": deepconf,
    "oracle": oracle,
}
