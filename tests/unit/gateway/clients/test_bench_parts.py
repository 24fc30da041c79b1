"""The pure parts of `bench solve`: rows, jobs, numbers as text."""

from pathlib import Path

import pytest

from gateway.bench.report import Report, Table, environment, number
from gateway.bench.solve import plan
from router.questions import Question
from router.stats import Estimate, wilson


def test_a_rows_own_bounds_hold_for_auto_only() -> None:
    row = Question(1, (), {"checks": [], "samples": {"min": 2, "max": 3}})
    sent = {job.arm: job.request("champion")["extra_body"] for job in plan([row], ["auto", "always-1"], 0, None)}
    assert sent["auto"]["verification"]["samples"] == {"min": 2, "max": 3}
    assert sent["always-1"]["verification"]["samples"] == {"min": 1, "max": 1}
    assert "max_tokens" not in sent["auto"]


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(None, 0, None, None), "-"),
        (Estimate(0.0012345, 9, 0.001, None), "0.00123 [0.001, ?]"),
        (Estimate(2.0, 1, None, None), "2 [?, ?]"),
    ],
)
def test_numbers_stand_beside_their_interval(estimate: Estimate, text: str) -> None:
    assert number(estimate) == text


def test_a_rate_is_shown_in_per_cent() -> None:
    assert number(wilson(5, 10), ".1f", 100) == "50.0 [23.7, 76.3]"


def test_a_table_as_markdown() -> None:
    assert Table("T", ["a", "b"], [["1", "2"]]).markdown() == "**T**\n\n| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_the_environment_names_machine_and_versions() -> None:
    facts = environment()
    assert facts["command"].startswith("thinktwice")
    assert facts["date"].endswith("Z")
    assert {"thinktwice", "python"} <= facts["versions"].keys()
    assert "cores" in facts["machine"]


def test_a_result_of_the_same_second_is_not_overwritten(tmp_path: Path) -> None:
    first, second = (Report("tasks", {"date": "2026-11-22T06:39:30Z", "run": run}, {}, []) for run in (1, 2))
    paths = [first.write(tmp_path), second.write(tmp_path)]
    assert [each.name for each in paths[0]] == ["tasks-20261122T063930Z.json", "tasks-20261122T063930Z.md"]
    assert [each.name for each in paths[1]] == ["tasks-20261122T063930Z-2.json", "tasks-20261122T063930Z-2.md"]
    assert ["run: 1" in paths[0][1].read_text(), "run: 2" in paths[1][1].read_text()] == [True, True]
