"""The page of a run: everything that decided is on it, and what models wrote cannot run there."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from router.errors import TrainingError
from router.questions import Question
from training.comparison import compare
from training.evaluate import Arm, Plan, Trial
from training.http_client import Answer
from training.page import PAGE, read_report, write_page
from training.update import StepMetrics

CANDIDATE, CHAMPION = "policy-2-bbbbbbbb", "policy-1-aaaaaaaa"
SCRIPT = "<script>alert('won')</script>"


def report(steps: int = 3, *, logged: bool = True) -> dict[str, Any]:
    metrics = [
        StepMetrics(
            step=number, steps=steps, rows=64, tokens=900, reward=0.4, length=12.0, loss=-0.1 / number, grad_norm=0.5,
            entropy=1.5, kl=0.001 * number if logged else None, ratio=1.0 if logged else None,
            clip_fraction=0.02 if logged else None, ess=0.97 if logged else None, seconds=1.0,
        )
        for number in range(1, steps + 1)
    ]  # fmt: skip
    return {
        "policy": CANDIDATE,
        "parent": None,
        "base_model": "small<model>",
        "ended": "done",
        "counts": {
            "groups_read": 40,
            "groups_kept": 24,
            "rows_kept": 96,
            "difficulty": {"hard": 3, "middle": 21},
            "dropped_groups": {"heldout": 10, "no_consent": 6},
            "dropped_rows": {"truncated": 4},
            "forgotten": 2,
        },
        "shaping": {"length": {"weight": -0.1, "mean": 0.25, "rows": 96}},
        "forecast": {"tokens": 2700, "seconds": None, "memory_mb": 800.0, "basis": "no run of this model yet"},
        "peak_mb": 812.5,
        "identity": [{"source": "vllm 0.32", "rows": 8, "kl": 0.0004}],
        "steps": [asdict(each) for each in metrics],
    }


def verdict() -> dict[str, Any]:
    """30 questions: the candidate solves all but the last, the champion the first ten and the last."""

    def answer(policy: str, solved: bool, text: str) -> Answer:
        return Answer(text, policy, solved, "decisive_pass" if solved else "all_failed", 1, 5, 10, False, None, 0.1)

    questions = [Question(line, ({"role": "user", "content": f"Question {line}?"},), {}) for line in range(1, 31)]
    trials = []
    for question in questions:
        ours, theirs = question.line < 30, question.line <= 10 or question.line == 30
        trials.append(Trial(question.line, Arm.CANDIDATE, answer(CANDIDATE, ours, SCRIPT)))
        trials.append(Trial(question.line, Arm.CHAMPION, answer(CHAMPION, theirs, "line one\nline two")))
    names = {Arm.CANDIDATE: CANDIDATE, Arm.CHAMPION: CHAMPION}
    found: dict[str, Any] = json.loads(json.dumps(compare(Plan(questions, names), names, trials, 0.05).as_dict()))
    return found


def test_the_first_wins_and_losses_are_kept_as_examples() -> None:
    found = verdict()
    assert [each["question"] for each in found["wins"]] == [f"Question {line}?" for line in range(11, 16)]
    assert [each["question"] for each in found["losses"]] == ["Question 30?"]
    assert found["losses"][0] == {"question": "Question 30?", "candidate": SCRIPT, "champion": "line one\nline two"}


def test_a_page_without_a_verdict_says_so(tmp_path: Path) -> None:
    write_page(tmp_path, report(steps=1))
    page = (tmp_path / PAGE).read_text()
    assert "Gate: not evaluated yet" in page and "24 of 40 groups in 1 steps, ended: done" in page
    assert "small&lt;model&gt;" in page and "no_consent" in page and "vllm 0.32" in page
    assert "unknown" in page and "812.5" in page and "From no run of this model yet." in page
    assert page.count("<svg") == 5 and "Shaping of the reward" in page


def test_rows_without_logged_probabilities_have_no_ratio_to_draw(tmp_path: Path) -> None:
    write_page(tmp_path, report(logged=False))
    assert (tmp_path / PAGE).read_text().count("<svg") == 3


def test_a_page_with_a_verdict_has_its_test_its_guards_and_its_examples(tmp_path: Path) -> None:
    found = verdict()
    write_page(tmp_path, report(), found)
    page = (tmp_path / PAGE).read_text()
    assert f"Gate: {found['verdict']}: better (19 wins to 1, p = " in page
    assert "Only the candidate solved, the first few" in page and "Question 15?" in page and "Question 16?" not in page
    assert "&lt;script&gt;" in page and "<script" not in page
    assert "truncated share (difference)" in page and "30 of 30" in page


def test_a_report_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    for content in (None, "{"):
        if content:
            (tmp_path / "report.json").write_text(content)
        with pytest.raises(TrainingError, match=r"cannot read .*report\.json"):
            read_report(tmp_path)
