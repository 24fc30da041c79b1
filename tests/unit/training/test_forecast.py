"""What a cycle would take: counted from the log, paced by what was measured, unknown where nothing was."""

import json
from pathlib import Path

import pytest

from router.settings import TrainingSection
from tests.support.training_log import trained_group, trained_sample
from training.forecast import Past, Traffic, last_run, phases, update_phase
from training.gate import Verdict
from training.ledger import Cycle
from training.page import REPORT


def traffic(*groups: tuple[float, ...], **fields: object) -> Traffic:
    found = Traffic()
    for number, rewards in enumerate(groups):
        samples = tuple(trained_sample(index, reward, **fields) for index, reward in enumerate(rewards))
        found.add(
            trained_group(
                f"g{number}", samples=samples, prompt_tokens=10, completion_tokens=4, cost_usd=0.5, failures=()
            )
        )
    return found


def test_groups_are_counted_by_how_they_turned_out() -> None:
    found = traffic((1.0, 0.0), (0.0, 0.0), (1.0, 1.0), (0.0,), (1.0, 0.5))
    assert (found.groups, found.samples, found.tokens, found.cost_usd) == (5, 9, 70, 2.5)
    assert (found.mixed, found.all_failed, found.all_passed, found.failed) == (2, 1, 1, 4)
    assert found.failed_tokens == 4 * len(trained_sample().completion_token_ids or ())


@pytest.mark.parametrize(
    ("found", "advice"),
    [
        (traffic((1.0, 0.0), answer_key="7"), []),
        (traffic((1.0, 0.0), answer_key=None), ["had no final answer"]),
        (traffic((1.0, 0.0), answer_key="7", truncated=True), ["cut off at their token limit"]),
        (traffic((0.0, 0.0), answer_key="7"), ["solved nothing"]),
        (traffic((1.0, 1.0), answer_key="7"), ["ask harder prompts"]),
        (Traffic(), []),
    ],
)
def test_the_simpler_route_is_named_where_failures_have_one_cause(found: Traffic, advice: list[str]) -> None:
    said = list(found.advice())
    assert len(said) == len(advice) and all(part in line for part, line in zip(advice, said, strict=True))


def test_what_was_never_measured_is_unknown() -> None:
    config = TrainingSection(usd_per_hour=2.0)
    planned = {each.name: each for each in phases(traffic((1.0, 0.0)), (), 50, (), config, None)}
    assert list(planned) == ["generation", "verification", "failed attempts", "update", "evaluation"]
    assert (planned["update"].tokens, planned["update"].seconds, planned["update"].usd) == (0, None, None)
    assert (planned["evaluation"].tokens, planned["evaluation"].seconds) == (2 * 50 * 7, None)
    assert planned["generation"].usd == 0.5 and planned["evaluation"].usd == pytest.approx(0.5 / 14 * 700)


def test_the_pace_is_the_last_ones() -> None:
    judged = Cycle("c", 0, verdict=Verdict.HOLD, pairs=25, seconds={"train": 9.0, "evaluate": 100.0})
    config = TrainingSection(usd_per_hour=3600.0)
    planned = phases(traffic((1.0, 0.0)), (), 50, [Cycle("b", 0), judged], config, Past(1000, 60.0, 700.0))
    assert planned[-1].seconds == 200.0
    update = update_phase((), config, Past(1000, 60.0, 700.0))
    assert (update.seconds, update.memory_mb, update.usd) == (0.0, 700.0, 0.0)


def test_the_newest_run_of_the_same_model_that_took_a_step_is_the_measure(tmp_path: Path) -> None:
    def wrote(name: str, text: str) -> None:
        (tmp_path / "training" / name).mkdir(parents=True)
        (tmp_path / "training" / name / REPORT).write_text(text)

    steps = [{"tokens": 100, "seconds": 2.0}, {"tokens": 50, "seconds": 1.0}]
    assert last_run(tmp_path, "base") is None
    wrote("1", json.dumps({"base_model": "base", "steps": steps[:1]}))
    wrote("2", json.dumps({"base_model": "base", "steps": steps, "peak_mb": 512.0}))
    wrote("3", json.dumps({"base_model": "another", "steps": steps}))
    wrote("4", json.dumps({"base_model": "base", "steps": []}))
    wrote("5", "{")
    assert last_run(tmp_path, "base") == Past(150, 3.0, 512.0)
