"""What a calibration is fitted on: prompts with the outcomes of their samples."""

from __future__ import annotations

from dataclasses import dataclass

from router.calibration.features import PromptFeatures, signals, steps
from router.domain import Candidate
from router.enums import CheckClass, Outcome

MAX_WEIGHT = 10.0  # of a group whose propensity is small: a few must not outweigh all others


@dataclass(frozen=True, slots=True)
class SampleSeen:
    """One judged sample."""

    solved: bool
    key: str | None
    signals: tuple[float, ...] | None
    steps: tuple[tuple[str, tuple[float, ...]], ...]  # what process checks found, by type
    checks: tuple[tuple[str, Outcome], ...]  # the other checks without proof, by type
    tokens: int  # 0 where the engine said neither token ids nor log-probabilities

    @classmethod
    def of(cls, candidate: Candidate, solved: bool) -> SampleSeen:
        """From a candidate whose truth is known."""
        process = [result for result in candidate.checks if result.klass is CheckClass.PROCESS]
        soft = [each for each in candidate.checks if each.klass not in (CheckClass.DECISIVE, CheckClass.PROCESS)]
        return cls(
            solved=solved,
            key=candidate.answer_key,
            signals=signals(candidate.sample),
            steps=tuple((each.type, found) for each in process if (found := steps(each)) is not None),
            checks=tuple((result.type, result.outcome) for result in soft),
            tokens=len(candidate.sample.token_ids or candidate.sample.logprobs or ()),
        )


@dataclass(frozen=True, slots=True)
class Observation:
    """One prompt with its judged samples in the order they were drawn."""

    features: PromptFeatures
    samples: tuple[SampleSeen, ...]
    prompt_tokens: int
    propensity: float = 1.0  # chance that its group was drawn as it was
    full: bool = True  # drawn to its end whatever its outcomes

    @property
    def weight(self) -> float:
        """Inverse propensity of the route, clipped (Horvitz and Thompson, JASA 47, 1952).

        Not of each later sample. Where no price gives a prompt up, a failure is followed by a sample on every route, so
        that the later samples of an audited group weigh more than their rarity asks for. Audits are drawn whatever the
        prompt, so this bends no estimate; it costs variance: at a share of 2 % the later samples count as about half as
        many (Kish, Survey Sampling, 1965: (sum of weights)^2 over the sum of their squares). The exact weight needs
        what the other route would have drawn, which the log does not hold.
        """
        return min(1.0 / self.propensity, MAX_WEIGHT)

    @property
    def unselected(self) -> tuple[SampleSeen, ...]:
        """The samples that were drawn whatever the others came to: all of a full group, the first of any other."""
        return self.samples if self.full else self.samples[:1]

    @property
    def solved(self) -> int:
        """Samples that solved it."""
        return sum(sample.solved for sample in self.samples)
