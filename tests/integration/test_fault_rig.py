"""One short round of `tests/bench/fault_rig.py`: every fault once under 64 clients. Its long run is in docs/results."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from tests.bench.fault_rig import CLIENTS, run_rig
from tests.support.engine_process import WRONG
from tests.support.fault_clients import KINDS, Outcomes, Question, hold
from tests.support.faults import Fault


async def test_no_fault_costs_a_right_answer_or_a_logged_group(tmp_path: Path) -> None:
    report = await run_rig(tmp_path, rounds=1, seed=1, hold_s=0.4)
    assert set(report.faults().values()) == {0}, (report.faults(), report.outcomes.unclear, report.unrecovered)
    assert report.injected == dict.fromkeys(Fault, 1)
    found = report.outcomes
    assert {name.split()[0] for name in found.answers} == set(KINDS)
    assert found.answered > CLIENTS and len(found.groups) > CLIENTS and report.logged >= len(found.groups)
    assert any(name.startswith("503") for name in found.errors)  # the faults were felt


def test_the_rig_would_see_a_wrong_answer() -> None:
    """Another client's answer, a wrong one that is called verified, an error without words, a stream without an end."""
    question = Question("checked", False, "checked q1-2-3 How much? \\boxed{3}", 3)

    def told(content: str, status: str) -> Outcomes:
        outcomes = Outcomes()
        verdict = {"route": "vote", "status": status, "group_id": "g"}
        body = {"choices": [{"message": {"content": content}}], "verification": verdict}
        hold(question, 200, json.dumps(body).encode(), outcomes)
        return outcomes

    assert told(question.text, "verified").answered == 1 and not told(question.text, "verified").wrong
    assert told(question.text + WRONG, "verified").wrong and not told(question.text + WRONG, "failed").wrong
    assert told("checked q9-2-3 How much? \\boxed{3}", "verified").crossed
    for status, data in (
        (500, b"Internal Server Error"),
        (503, b'{"error": {"message": "", "code": "x"}}'),
        (200, b"{}"),
    ):
        outcomes = Outcomes()
        hold(question, status, data, outcomes)
        assert len(outcomes.unclear) == 1 and outcomes.answered == 0
    outcomes = Outcomes()
    hold(replace(question, stream=True), 200, b'data: {"choices": []}\n\n', outcomes)
    assert len(outcomes.unclear) == 1
