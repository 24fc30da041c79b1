"""Optimal stopping: what one more sample of a prompt is worth. Pure arithmetic on a belief about its pass rate.

The belief is a Beta distribution of how often one sample solves the prompt. With an oracle a sample is worth the
chance that it passes. Without one the answers vote, and a sample is worth what it adds to the chance that the elected
answer is right: right answers are all one, wrong ones fall together as in a Chinese restaurant process (Pitman,
Combinatorial Stochastic Processes, 2006, section 3.1), whose concentration says how scattered wrong answers are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise, product
from math import comb, factorial, prod
from operator import mul, sub

from router.domain import MAX_SAMPLES


@dataclass(frozen=True, slots=True)
class PassRate:
    """Beta(solved, failed): the belief about how often one sample solves the prompt. Both are above 0."""

    solved: float
    failed: float

    @classmethod
    def of(cls, mean: float, strength: float) -> PassRate:
        """The belief of this mean, in (0, 1), worth `strength` observed samples."""
        return cls(mean * strength, (1.0 - mean) * strength)

    @property
    def mean(self) -> float:
        """Chance that one sample solves it."""
        return self.solved / (self.solved + self.failed)

    def chance_after(self, failures: int) -> float:
        """Chance that the next sample passes after so many that failed."""
        return self.solved / (self.solved + self.failed + failures)

    def survival(self, most: int) -> list[float]:
        """Chances that the first 0, 1, ..., `most` samples all fail."""
        chances = [1.0]
        for failures in range(most):
            chances.append(chances[-1] * (1.0 - self.chance_after(failures)))
        return chances


JEFFREYS = PassRate(0.5, 0.5)  # knows nothing: most prompts are easy or hopeless, few are in between
HARD = PassRate(0.25, 1.0)  # of a prompt that its client takes to be hard: one sample in five solves it


def worthwhile(belief: PassRate, most: int, worth: float) -> int:
    """How many samples to draw, at least 1, while none passes: the next one must repay its cost.

    `worth` is the value of a solved task in samples. The chance falls with every failure, so looking one sample ahead
    is optimal (the monotone case of Chow, Robbins and Siegmund, Great Expectations, 1971, section 3.5).
    """
    drawn = 1
    while drawn < most and belief.chance_after(drawn) * worth > 1.0:
        drawn += 1
    return drawn


def wave_ends(belief: PassRate, most: int, slack: float) -> tuple[int, ...]:
    """Where the waves of up to `most` samples end, when the first pass stops the drawing.

    Among all ways to cut `most` samples into waves, those expected to draw at most `1 + slack` times what one sample at
    a time would; of these the one with the fewest expected waves. Counts every sample of a wave as spent, though the
    first pass cancels the rest.
    """
    alive = belief.survival(most)
    fewest = sum(alive[:most])
    allowed, best = (1.0 + slack) * fewest, tuple(range(1, most + 1))
    for ends, starts, sizes in _cuts(most):
        reached = [alive[start] for start in starts]
        if (waves := sum(reached)) < fewest and sum(map(mul, sizes, reached)) <= allowed:
            best, fewest = ends, waves
    return best


@dataclass(frozen=True, slots=True)
class Seen:
    """What a vote has shown. Samples without an answer are in `drawn` alone: they are wrong."""

    votes: tuple[int, ...] = ()  # of each distinct answer
    evidence: tuple[float, ...] = ()  # of each: likelihood ratio, right against wrong, of all else known of it
    drawn: int = 0


@dataclass(frozen=True, slots=True)
class _Rising:
    """Rising factorials of a belief's numbers to the powers 0 to `MAX_SAMPLES`, and powers of its spread."""

    solved: list[float]
    failed: list[float]
    either: list[float]
    spread: list[float]
    powers: list[float]


@dataclass(frozen=True, slots=True)
class VoteBelief:
    """What is believed of a prompt whose answers vote: its pass rate, and how its wrong answers scatter.

    `spread` is the concentration of the Chinese restaurant process: near 0 all wrong answers agree, when large no two.
    """

    pass_rate: PassRate
    spread: float
    _rising: _Rising = field(init=False, repr=False, compare=False)  # worked out once for all steps of a group

    def __post_init__(self) -> None:
        solved, failed = self.pass_rate.solved, self.pass_rate.failed
        powers = [self.spread**answers for answers in range(MAX_SAMPLES + 1)]
        rising = _Rising(_rising(solved), _rising(failed), _rising(solved + failed), _rising(self.spread), powers)
        object.__setattr__(self, "_rising", rising)

    def weights(self, seen: Seen) -> list[float]:
        """Of each answer, in proportion to the chance that it is the right one."""
        scale = self._scale(sum(seen.votes), seen.drawn)
        return [tilt * scale[count] for count, tilt in zip(seen.votes, seen.evidence, strict=True)]

    def confidence(self, seen: Seen, more: int = 0) -> float:
        """Chance that the answer elected after `more` further samples is right."""
        return self.elected(seen, more) / self.evidence(seen)

    def elected(self, seen: Seen, more: int) -> float:
        """Joint probability of what was seen and that the answer elected after `more` further samples is right.

        All outcomes of the further samples are summed, each with the largest joint probability of it and an answer's
        being right. They are taken to bring answers and no other evidence.
        """
        powers, scale = self._rising.powers, self._scale(sum(seen.votes) + more, seen.drawn + more)
        joint = 0.0
        for ways, answers, counts, new in _outcomes(seen.votes, more):
            best = 0.0
            for count, tilt in zip(counts, seen.evidence, strict=False):
                if (weight := tilt * scale[count]) > best:
                    best = weight
            for size in new:
                if (weight := scale[size]) > best:
                    best = weight
            joint += ways * best * powers[answers]
        return joint

    def evidence(self, seen: Seen) -> float:
        """Probability of what was seen, under all hypotheses together."""
        scale = self._scale(sum(seen.votes), seen.drawn)
        shared = self._rising.powers[len(seen.votes)] * prod([_FACTORIAL[count - 1] for count in seen.votes])
        right = sum(tilt * scale[count] for count, tilt in zip(seen.votes, seen.evidence, strict=True))
        return shared * (right + scale[0])

    def _scale(self, answered: int, drawn: int) -> list[float]:
        """The likelihood of an answer's votes if it is right, by its votes from 0 to `answered`.

        What all hypotheses share, `spread` for each answer voted for and the orders in which it was joined, is left
        out. That of 0 votes is so of any answer that nobody gave, and of none being right that somebody gave.
        """
        rising = self._rising
        whole = rising.either[drawn] * self.spread
        scale = [
            rising.solved[count]
            * rising.failed[drawn - count]
            / (_OWN[count] * rising.spread[answered - count] * whole)
            for count in range(answered + 1)
        ]
        scale[0] *= self.spread  # it is no answer voted for, so that all of those share the spread: none is right
        return scale


def paying_batch(belief: VoteBelief, seen: Seen, most: int, worth: float) -> tuple[int, float]:
    """The smallest number of further samples, up to `most`, that repays its cost together (0: none), and `confidence`.

    `worth` is the value of a right answer in samples. One vote against one changes no winner, so that looking one
    sample ahead would stop too soon: batches are compared whole. The confidence is that of the answer elected now.
    """
    evidence = belief.evidence(seen)
    now = belief.elected(seen, 0) / evidence
    if most == 0:
        return 0, now
    # More samples never make the vote worse: what all of them together would not pay for one, no batch repays.
    gain = (belief.elected(seen, most) / evidence - now) * worth
    for more in range(1, most):
        if gain <= more:
            return 0, now
        if (belief.elected(seen, more) / evidence - now) * worth > more:
            return more, now
    return (most if gain > most else 0), now


def best_return(belief: VoteBelief, seen: Seen, most: int, worth: float) -> float:
    """The largest value for its price of a batch of up to `most` (at least 1) further samples.

    Above 1 `paying_batch` finds a batch that repays its cost, else none.
    """
    now = belief.elected(seen, 0)
    whole = belief.elected(seen, most) - now
    best = whole / most
    for more in range(1, most):
        if best >= whole / more:  # more samples never make the vote worse, so no smaller batch gains more than all
            break
        best = max(best, (belief.elected(seen, more) - now) / more)
    return best / belief.evidence(seen) * worth


_FACTORIAL = tuple(factorial(n) for n in range(12))
_OWN = (1, *_FACTORIAL)  # orders in which an answer of 0, 1, 2, ... votes was joined


def _rising(start: float) -> list[float]:
    """The rising factorials of `start` to the powers 0, 1, ..., `MAX_SAMPLES`."""
    powers = [1.0]
    for step in range(MAX_SAMPLES):
        powers.append(powers[-1] * (start + step))
    return powers


@cache
def _cuts(total: int) -> tuple[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]], ...]:
    """All ways to cut `total` samples into waves: where the waves end, where they start, and their sizes."""
    inner = range(1, total)
    found = []
    for chosen in product((False, True), repeat=total - 1):
        ends = (*(cut for cut, kept in zip(inner, chosen, strict=True) if kept), total)
        starts = (0, *ends[:-1])
        found.append((ends, starts, tuple(map(sub, ends, starts))))
    return tuple(found)


@cache
def _outcomes(votes: tuple[int, ...], more: int) -> tuple[tuple[int, int, tuple[int, ...], tuple[int, ...]], ...]:
    """What `more` answers can make of `votes`: ways, number of answers, votes of those known, sizes of new ones.

    The ways count the orders in which the samples can bring it about and in which each answer can be joined.
    """
    found = []
    for added in product(range(more + 1), repeat=len(votes)):
        fresh = more - sum(added)
        if fresh < 0:
            continue
        placed, left = 1, more
        for count in added:
            placed, left = placed * comb(left, count), left - count
        counts = tuple(count + extra for count, extra in zip(votes, added, strict=True))
        for sizes in _partitions(fresh, fresh):
            joined = prod(_FACTORIAL[count - 1] for count in (*counts, *sizes))
            ways = placed * _set_partitions(sizes) * joined
            found.append((ways, len(counts) + len(sizes), counts, tuple(set(sizes))))
    return tuple(found)


def _partitions(total: int, largest: int) -> Iterator[tuple[int, ...]]:
    """Partitions of `total` into parts of at most `largest`, largest part first."""
    if total == 0:
        yield ()
    for part in range(min(total, largest), 0, -1):
        for rest in _partitions(total - part, part):
            yield (part, *rest)


def _set_partitions(sizes: Sequence[int]) -> int:
    """Ways to part a set into blocks of these sizes."""
    ways = factorial(sum(sizes))
    for size in sizes:
        ways //= factorial(size)
    repeats, run = 1, 1
    for before, after in pairwise(sizes):
        run = run + 1 if before == after else 1
        repeats *= run
    return ways // repeats
