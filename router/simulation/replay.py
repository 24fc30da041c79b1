"""One group replayed: samples are drawn from the record in waves, and cost what serving would have paid for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from router.decode import Decoded
from router.domain import Candidate
from router.enums import Route, Stopped
from router.escalation import gained, log_odds
from router.plan import Plan, Tally, next_wave, stop_reason
from router.sampling import batches
from router.simulation.problem import Problem
from router.stopping import VoteBelief
from router.vote import elect


@dataclass(frozen=True, slots=True)
class Run:
    """What one group came to. Tokens as billed: a prompt for each call, generated tokens until a sample was cut."""

    solved: float  # 1 or 0; a mean over orders lies between
    samples: float
    waves: float
    completion_tokens: float
    prompt_tokens: float
    larger_completion: float = 0.0  # of them, those of a larger model, which has another price
    larger_prompt: float = 0.0

    @classmethod
    def mean(cls, runs: Sequence[Run]) -> Run:
        """The mean of several."""
        count = len(runs)
        return cls(
            sum(run.solved for run in runs) / count,
            sum(run.samples for run in runs) / count,
            sum(run.waves for run in runs) / count,
            sum(run.completion_tokens for run in runs) / count,
            sum(run.prompt_tokens for run in runs) / count,
            sum(run.larger_completion for run in runs) / count,
            sum(run.larger_prompt for run in runs) / count,
        )


Replayed: TypeAlias = Callable[[Problem], Run]  # a policy: what it makes of a problem, its samples in this order


@dataclass(frozen=True, slots=True)
class LastWave:
    """The sample that a larger model would add to a group, its prompt's tokens, and the terms of `[escalation]`."""

    candidate: Candidate
    solved: bool
    prompt_tokens: int
    chance: float
    value: float | None  # of a solved task, in dollars; None sets no price
    price: Callable[[float, float], float]  # of prompt and completion tokens, in dollars

    def asked(self, plan: Plan, replay: Replay, stopped: Stopped) -> bool:
        """Whether serving would ask for it, expecting as many tokens as the group's own samples took."""
        gain = gained(plan, replay.tally, stopped, self.chance)
        return gain > 0 and (self.value is None or gain * self.value > self.price(*replay.mean_tokens))

    def alone(self) -> Run:
        """The sample by itself."""
        completion = _length(self.candidate)
        return Run(float(self.solved), 1, 1, completion, self.prompt_tokens, completion, self.prompt_tokens)


class Replay:
    """A group that is being drawn. The samples of a wave are generated side by side, one token each at a time."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self.decoded = Decoded()
        self._launched = self._waves = self._calls = self._tokens = 0
        self._last: LastWave | None = None

    @property
    def tally(self) -> Tally:
        """What the plan needs to know."""
        return self.decoded.tally()

    @property
    def ended(self) -> list[Candidate]:
        """The samples that ran to their end."""
        return self.decoded.candidates

    @property
    def mean_tokens(self) -> tuple[float, float]:
        """Prompt and completion tokens of one sample so far."""
        return self._problem.prompt_tokens, self._tokens / max(len(self.ended), 1)

    def last_wave(self, last: LastWave) -> None:
        """Add the sample of the larger model."""
        sample = replace(last.candidate.sample, index=len(self._problem.samples))
        self.decoded.candidates.append(replace(last.candidate, sample=sample, vote=0, evidence=log_odds(last.chance)))
        self._last = last

    def wave(self, count: int, stops: Callable[[], bool] = lambda: False) -> None:
        """Draw `count` samples; as soon as `stops` says so after one that ended, the others are cut where they are."""
        drawn = self._problem.samples[self._launched : self._launched + count]
        self._calls += len(batches(self._problem.prompt.sampling, self._launched, len(drawn)))
        self._launched += len(drawn)
        self._waves += 1
        lengths = {candidate.sample.index: _length(candidate) for candidate in drawn}
        cut: int | None = None
        for candidate in sorted(drawn, key=lambda each: (lengths[each.sample.index], each.sample.index)):
            if cut is None:
                self.decoded.candidates.append(candidate)
                cut = lengths[candidate.sample.index] if stops() else None
                self._tokens += lengths[candidate.sample.index]
            else:
                self._tokens += cut

    def run(self, winner: Candidate) -> Run:
        """What it came to when this sample is returned."""
        last, completion, prompt = self._last, 0, 0
        if last is not None:
            completion, prompt = _length(last.candidate), last.prompt_tokens
        own = winner.sample.index < len(self._problem.samples)
        return Run(
            solved=float(self._problem.solved[winner.sample.index] if own else last is not None and last.solved),
            samples=self._launched + (last is not None),
            waves=self._waves + (last is not None),
            completion_tokens=self._tokens + completion,
            prompt_tokens=self._calls * self._problem.prompt_tokens + prompt,
            larger_completion=completion,
            larger_prompt=prompt,
        )


def served(problem: Problem, route: Route, plan: Plan, last: LastWave | None = None) -> Run:
    """The group that serving would have drawn under this route and plan: the same plan, stop and vote code.

    With `last` a larger model adds its sample where serving would have asked it.
    """
    replay = Replay(problem)
    if route is Route.SINGLE:
        replay.wave(1)
    stopped: Stopped | None = Stopped.SINGLE if route is Route.SINGLE and not plan.oracle else None
    while stopped is None and (stopped := stop_reason(plan, replay.tally)) is None:
        replay.wave(next_wave(plan, replay.tally), lambda: stop_reason(plan, replay.tally) is not None)
    if last is not None and last.asked(plan, replay, stopped):
        replay.last_wave(last)
    return finished(replay, plan.voting)


def finished(replay: Replay, belief: VoteBelief | None = None) -> Run:
    """What a group came to under serving's vote."""
    return replay.run(elect(sorted(replay.ended, key=lambda candidate: candidate.sample.index), belief).winner)


def _length(candidate: Candidate) -> int:
    return len(candidate.sample.token_ids or ())
