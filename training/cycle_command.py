"""`thinktwice train --if-due`: the cycle with its real parts, and what it prints."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path

import msgspec

from router.errors import ConfigError, TrainingError
from router.questions import Question, load_questions
from router.registry import Policy, PolicyRegistry
from router.settings import TrainingSection
from training.comparison import Comparison
from training.crew import Crew
from training.cycle import CycleRunner, NotDue, Ports, Trained
from training.facts import tell_cycles, tell_scores
from training.http_client import base_url
from training.judge import judge
from training.ledger import Cycle, Ledger
from training.page import read_report, write_page
from training.place import Place, new_groups
from training.progress import training_bar
from training.trial import OnTrial, Trial


def run_if_due(place: Place, training: TrainingSection, crew: Crew, as_json: bool) -> str:
    """Run a cycle, or the rest of one, and say how it ended. Raises as `CycleRunner.run`, and `ConfigError`."""
    if training.eval_data is None:
        raise ConfigError("--if-due judges what it trains: set [training] eval_data to a file of held-out questions")
    base_url(training.gateway_url)  # known to be one before hours are spent
    questions = load_questions(training.eval_data)
    runner = CycleRunner(
        registry=PolicyRegistry(place.state_dir),
        ledger=Ledger(place.state_dir / "training"),
        ports=_ports(place, training, questions, crew),
        due_groups=training.due_groups,
        trial=Trial(training.canary_shares, training.canary_answers, place.state_dir),
    )
    try:
        ended = runner.run()
        waiting = ended.new.number if isinstance(ended, NotDue) else 0
        tell_cycles(place.state_dir, runner.ledger, waiting, time.time())
    except OSError as error:
        raise TrainingError(f"the cycle cannot go on: {error}: run this again once it is cured") from error
    return _as_json(ended) if as_json else _as_text(ended)


def _ports(place: Place, training: TrainingSection, questions: tuple[Question, ...], crew: Crew) -> Ports:
    def train_for(cycle: str) -> Trained:
        from training.run import train  # noqa: PLC0415  # TRL takes seconds, and most runs are not due

        with training_bar() as advance:
            report = train(place, training, advance, cycle, crew)
        counts = report.counts
        for problem in counts.problems:
            print(problem, file=sys.stderr)
        if report.policy is None:  # forgotten, or of a champion that no longer serves, since they were counted
            raise TrainingError("the groups that were due are gone")
        return Trained(report.policy, counts.groups_kept, counts.dropped_groups, counts.positions)

    return Ports(
        new_groups=lambda consumed: new_groups(place, training, consumed),
        train=train_for,
        evaluate=lambda candidate, parent: judge(
            training, questions, candidate, parent, partial(_judged, place.state_dir, training, candidate)
        ),
    )


def _judged(state_dir: Path, training: TrainingSection, candidate: Policy, found: Comparison) -> None:
    """Put the evaluation on the page of the run that made the candidate, and the scores where metrics come from.

    The verdict does not depend on either.
    """
    assert training.eval_data is not None  # there were questions
    try:
        tell_scores(state_dir, training.eval_data.stem, found)
    except (OSError, TrainingError) as error:
        print(f"the scores of {candidate.name} are not among the metrics: {error}", file=sys.stderr)
    folder = state_dir / "training" / str(candidate.manifest.get("run"))
    verdict = json.loads(json.dumps(found.as_dict()))
    try:
        write_page(folder, read_report(folder), verdict)
    except (ConfigError, TrainingError) as error:
        print(f"the verdict is not on the page of {candidate.name}: {error}", file=sys.stderr)


def _as_json(ended: Cycle | OnTrial | NotDue) -> str:
    if isinstance(ended, OnTrial):
        return json.dumps({"exit": "on_trial", **asdict(ended)})
    if isinstance(ended, NotDue):
        return json.dumps(
            {"exit": "not_due", "needed": ended.needed, "groups": ended.new.number, "drops": ended.new.drops}
        )
    return msgspec.json.encode(ended).decode()


def _as_text(ended: Cycle | OnTrial | NotDue) -> str:
    if isinstance(ended, OnTrial):
        found = f"{ended.judged} of its answers were judged, {ended.needed} are needed"
        return f"on trial: {ended.policy} serves {ended.share:.0%} of requests as a canary; {found}"
    if isinstance(ended, NotDue):
        drops = ", ".join(f"{reason} {number}" for reason, number in sorted(ended.new.drops.items()))
        found = f"{ended.new.number} new trainable groups, {ended.needed} are needed"
        return f"not due: {found}; dropped: {drops or 'none'}"
    return f"{ended.exit} {ended.policy}: {ended.why}"
