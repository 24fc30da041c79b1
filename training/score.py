"""`thinktwice evaluate --if-due`: what the champion solves of the held-out questions, now and then, for its drift."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from router.errors import ConfigError, TrainingError
from router.questions import Question, load_questions
from router.registry import PolicyRegistry
from router.settings import TrainingSection, load_settings
from router.training_facts import HeldoutScore
from training.evaluate import Arm, Plan, evaluate
from training.facts import tell_score
from training.gate import MAX_ERROR_SHARE
from training.ledger import Ledger, Score
from training.progress import asking_bar
from training.sole import sole_trainer

_HOUR_S = 3600.0


def run_if_due(config: Path | None, as_json: bool) -> int:
    """Score the champion unless it was scored on these questions within `score_hours`; returns the exit code.

    The score goes into the ledger and to the gateways' metrics. Nothing is written before all was asked, so a run that
    is killed is made anew. Raises `ConfigError`, and `TrainingError` as `score`.
    """
    settings = load_settings(config)
    training, state_dir = settings.training, settings.state.dir
    if training.eval_data is None:
        raise ConfigError("--if-due asks held-out questions: set [training] eval_data to a file of them")
    questions = [each for each in load_questions(training.eval_data) if each.guard is None]
    if not questions:
        raise ConfigError(f"{training.eval_data} has questions of guard sets alone: add others, which can be solved")
    digest = hashlib.sha256(training.eval_data.read_bytes()).hexdigest()
    try:
        with sole_trainer(state_dir) as sole:
            if not sole:
                print(f"thinktwice: `thinktwice train` works on {state_dir}: let it end", file=sys.stderr)
                return os.EX_TEMPFAIL
            ledger, champion = Ledger(state_dir / "training"), PolicyRegistry(state_dir).champion().policy
            found = ledger.last_score()
            known = found is not None and (found.champion, found.data_sha256) == (champion, digest)
            due = not known or found is None or time.time() - found.ts >= training.score_hours * _HOUR_S
            if due:
                found = score(training, questions, champion, digest)
                ledger.add_score(found)
                tell_score(state_dir, HeldoutScore(training.eval_data.stem, found.policy, found.solved, found.n))
    except OSError as error:
        raise TrainingError(f"the score cannot be kept: {error}: run this again once it is cured") from error
    assert found is not None  # it is due without one
    print(msgspec.json.encode({"due": due, "score": found}).decode() if as_json else _as_text(due, found))
    return 0


def score(training: TrainingSection, questions: Sequence[Question], champion: str | None, digest: str) -> Score:
    """Ask the gateway's champion all questions.

    Raises `TrainingError` without a gateway, when its champion is another than the registry's, and when more than
    `MAX_ERROR_SHARE` of the questions were not answered: those that were would be no fair share.
    """
    plan = Plan(questions, {Arm.CHAMPION: "champion"}, seed=training.seed, max_tokens=training.eval_max_tokens)
    began = time.time()
    with asking_bar(len(plan.jobs())) as advance:
        served, trials = asyncio.run(evaluate(training.gateway_url, plan, advance))
    answers = [trial.answer for trial in trials if trial.answer is not None]
    if len(trials) - len(answers) > MAX_ERROR_SHARE * len(trials):
        first = next(trial.error for trial in trials if trial.error)
        raise TrainingError(f"{len(trials) - len(answers)} of {len(trials)} questions were not answered ({first})")
    policy = served[Arm.CHAMPION]
    if champion not in (None, policy):
        raise TrainingError(
            f"the champion of the gateway at {training.gateway_url} is {policy}, not {champion}: let both read the "
            "same [state] dir"
        )
    solved = sum(answer.solved is True for answer in answers)
    return Score(time.time(), champion, policy, digest, solved, len(answers), round(time.time() - began, 3))


def _as_text(due: bool, found: Score) -> str:
    said = f"{found.policy} solved {found.solved} of {found.n} held-out questions"
    return said if due else f"not due: {said} {(time.time() - found.ts) / _HOUR_S:.1f} hours ago"
