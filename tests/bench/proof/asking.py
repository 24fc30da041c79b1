"""Asking the gateway, traffic or held-out questions; what a killed run has asked already is not asked again."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gateway.bench.drive import Job, Trial
from gateway.bench.session import measure
from gateway.bench.tasks.catalogue import task_named
from gateway.client import EVALUATION
from router.enums import Outcome, Purpose
from router.errors import ThinkTwiceError
from router.fs import append_durably
from router.log.groups import read_groups
from router.questions import Question
from router.records import GroupRecord
from tests.bench.proof.plan import Plan

_AT_ONCE = 40  # held-out questions between two writes of what was found
_SEAL_TIMEOUT_S = 120.0
_PLAIN: Mapping[str, float] = {"temperature": 1.0, "top_p": 1.0, "top_k": -1, "min_p": 0.0}


def send_traffic(url: str, model: str, log_dir: Path, plan: Plan, cycle: int) -> None:
    """Send `model` the prompts of this cycle that are not in the log yet, and wait until the trainer can read all."""
    wanted = plan.traffic_questions(cycle)
    bounds = {"min": plan.traffic.samples, "max": plan.traffic.samples}

    def missing(include_open: bool) -> list[Question]:
        seen = {group.messages[-1]["content"] for group in ordinary(log_dir, include_open)}
        return [row for row in wanted if row.messages[-1]["content"] not in seen]

    jobs = [Job(row, "traffic", bounds, _sampling(plan, f"traffic/{cycle}", row), headers={}) for row in missing(True)]
    _ask(url, model, jobs, plan)
    deadline = time.monotonic() + _SEAL_TIMEOUT_S
    while left := missing(False):
        if time.monotonic() > deadline:
            raise ThinkTwiceError(f"{len(left)} groups of cycle {cycle + 1} are not in {log_dir}: run this again")
        time.sleep(0.5)


def ordinary(log_dir: Path, include_open: bool = False) -> list[GroupRecord]:
    """The groups of traffic in the log, oldest first."""
    if not log_dir.is_dir():
        return []
    return [group for _, group in read_groups(log_dir, include_open=include_open) if group.purpose is Purpose.PROD]


def judge(url: str, model: str, plan: Plan, name: str, path: Path) -> None:
    """Ask `model` every held-out question that `path` has no answer to, with the seeds of `name`."""
    known = {each["line"] for each in read_answers(path)}
    jobs = [
        Job(with_form(row), name, {"min": 1, "max": 1}, _sampling(plan, name, row), EVALUATION)
        for row in plan.heldout_questions()
        if row.line not in known
    ]
    for start in range(0, len(jobs), _AT_ONCE):
        trials = _ask(url, model, jobs[start : start + _AT_ONCE], plan)
        lines = (json.dumps({"line": each.row, "solved": each.solved, "form": _form(each)}) for each in trials)
        append_durably(path, "".join(f"{line}\n" for line in lines).encode())


def read_answers(path: Path) -> list[dict[str, Any]]:
    """What `judge` found; a line that a crash cut off is none."""
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def with_form(row: Question) -> Question:
    """The question with a second check, which decides nothing: is the answer an object of the right keys?"""
    [check] = row.verification["checks"]
    schema = {
        "type": "object",
        "required": check["schema"]["required"],
        "maxProperties": len(check["schema"]["required"]),
    }
    form = {"type": "json_schema", "id": "form", "required": False, "weight": 0.0, "schema": schema}
    return Question(row.line, row.messages, {"checks": [check, form]})


def _form(trial: Trial) -> bool:
    checks = trial.reply.verification["checks"] if trial.reply else ()
    return any(check["id"] == "form" and check["outcome"] == Outcome.PASS for check in checks)


def _sampling(plan: Plan, name: str, row: Question) -> dict[str, Any]:
    seed = random.Random(f"{plan.seed}/{name}/{row.line}").randrange(2**31)
    return {**_PLAIN, "max_tokens": task_named(plan.task.name).max_tokens, "seed": seed}


def _ask(url: str, model: str, jobs: Sequence[Job], plan: Plan) -> list[Trial]:
    trials, interrupted = measure(url, model, jobs, plan.traffic.concurrency)
    if interrupted:
        raise KeyboardInterrupt
    if errors := [trial.error for trial in trials if trial.error]:
        raise ThinkTwiceError(f"{len(errors)} of {len(trials)} requests failed, the first: {errors[0]}; run this again")
    return trials
