"""The evaluation of a cycle's candidate: what `thinktwice evaluate` does, with the configuration's settings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from router.errors import TrainingError
from router.questions import Question
from router.registry import Policy
from router.settings import TrainingSection
from training.comparison import Comparison, compare
from training.cycle import Judgement
from training.evaluate import Arm, Plan, evaluate
from training.progress import asking_bar


def judge(
    training: TrainingSection,
    questions: Sequence[Question],
    candidate: Policy,
    parent: str | None,
    done: Callable[[Comparison], None],
) -> Judgement:
    """Ask the gateway's champion, which must be `parent` (None: the base model), and the candidate all questions.

    `done` is called with all that was found.

    Raises `TrainingError` when there is no gateway, when its champion is another, or when nothing was answered.
    """
    champion = parent or candidate.manifest["base_model"]
    plan = Plan(
        questions=questions,
        names={Arm.CANDIDATE: candidate.name, Arm.CHAMPION: "champion"},
        seed=training.seed,
        max_tokens=training.eval_max_tokens,
    )
    with asking_bar(len(plan.jobs())) as advance:
        served, trials = asyncio.run(evaluate(training.gateway_url, plan, advance))
    if served[Arm.CHAMPION] != champion:
        raise TrainingError(
            f"the champion of the gateway at {training.gateway_url} is {served[Arm.CHAMPION]}, not {champion}: "
            "let both read the same [state] dir"
        )
    found = compare(plan, served, trials, training.alpha)
    done(found)
    evidence = found.evidence
    return Judgement(
        verdict=found.decision.verdict,
        why=found.decision.why,
        n01=evidence.n01,
        n10=evidence.n10,
        pairs=evidence.pairs,
        p=evidence.p_value,
        mde=evidence.mde,
    )
