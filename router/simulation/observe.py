"""What a calibration learns from a problem of a bank."""

from __future__ import annotations

from router.calibration.features import PromptFeatures, prompt_features
from router.calibration.observe import Observation, SampleSeen
from router.simulation.problem import Problem


def features_of(problem: Problem) -> PromptFeatures:
    """A problem's features, the same with and without its oracle in view."""
    return prompt_features(problem.prompt, problem.kind, problem.spec.profile, problem.tenant)


def observation(problem: Problem, propensity: float = 1.0, *, full: bool = True) -> Observation:
    """The problem with its judged samples; `full` says that none was left out for what the others came to."""
    seen = tuple(SampleSeen.of(each, won) for each, won in zip(problem.samples, problem.solved, strict=True))
    return Observation(features_of(problem), seen, problem.prompt_tokens, propensity, full)
