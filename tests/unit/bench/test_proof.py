"""The proof's plan and arithmetic: a split without overlap, a gain that is format and content and nothing else."""

from __future__ import annotations

import pytest

from router.settings import TrainingSection
from tests.bench.proof.asking import with_form
from tests.bench.proof.plan import PLAN, load_plan, rehearsal
from tests.bench.proof.report import compared
from training.gate import mcnemar_p


def answers(*found: tuple[bool, bool]) -> list[dict[str, object]]:
    """One answer a line: solved, in form."""
    return [{"line": line, "solved": solved, "form": form} for line, (solved, form) in enumerate(found, start=1)]


def test_traffic_never_meets_a_held_out_question_or_itself() -> None:
    for plan in (load_plan(PLAN), rehearsal(load_plan(PLAN))):
        parts = [plan.heldout_questions(), *(plan.traffic_questions(cycle) for cycle in range(plan.cycles))]
        asked = [str(row.messages[-1]["content"]) for part in parts for row in part]
        assert len(asked) == len(set(asked)) == plan.heldout.questions + plan.cycles * plan.traffic.prompts
        TrainingSection(**plan.training)  # its keys are the configuration's


def test_the_gain_is_what_format_and_content_add_up_to() -> None:
    before = answers((True, True), (False, True), (False, False), (False, False), (True, True))
    after = answers((True, True), (True, True), (True, True), (False, True), (False, True))
    found = compared(before, after)
    assert (found["n"], found["solved_before"], found["solved_after"]) == (5, 2, 3)
    assert (found["n01"], found["n10"], found["p"]) == (2, 1, mcnemar_p(2, 1))
    assert found["format_gain"] == pytest.approx((1.0 - 0.6) * (2 / 3))
    assert found["content_gain"] == pytest.approx(1.0 * (0.6 - 2 / 3))
    assert found["format_gain"] + found["content_gain"] == pytest.approx(found["gain"]["value"])


def test_the_form_is_judged_without_the_values() -> None:
    row = with_form(load_plan(PLAN).heldout_questions()[0])
    task, form = row.verification["checks"]
    assert "const" in str(task) and "const" not in str(form)
    assert (form["required"], form["weight"]) == (False, 0.0)
    assert form["schema"]["required"] == task["schema"]["required"]
