"""`evaluate --if-due`: the champion's score, once in a while, with no training."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from router.errors import ConfigError, TrainingError
from router.fs import try_lock
from router.training_facts import HeldoutScore, load_training_facts
from tests.support.scripted_gateway import ScriptedGateway, completion, refused
from training import score
from training.evaluate_command import register
from training.ledger import Ledger

ROWS = [{"question": str(number), "answer": number} for number in range(20)]
GUARD = {"question": "100", "answer": 100, "guard": "general"}


def below_five(body: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
    return completion("base", int(body["messages"][-1]["content"]) < 5)


def configured(tmp_path: Path, url: str, more: str = "") -> list[str]:
    """The command's flags, of a configuration with twenty questions and one of a guard set."""
    data = tmp_path / "suite.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in [*ROWS, GUARD]))
    file = tmp_path / "thinktwice.toml"
    file.write_text(f'[state]\ndir = "{tmp_path}"\n[training]\neval_data = "{data}"\ngateway_url = "{url}"\n{more}\n')
    return ["evaluate", "--if-due", "--config", str(file)]


def run(given: list[str]) -> int:
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers())
    args = parser.parse_args(given)
    code: int = args.run(args)
    return code


def test_scored_once_until_it_is_due_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedGateway(below_five) as gateway:
        given = configured(tmp_path, gateway.url)
        assert run(given) == 0
        assert capsys.readouterr().out == "base solved 5 of 20 held-out questions\n"
        assert len(gateway.requests) == 20
        assert {headers["x-thinktwice-purpose"] for headers, _ in gateway.requests} == {"eval"}
        assert run(given) == 0
        assert capsys.readouterr().out.startswith("not due: base solved 5 of 20 held-out questions 0.0 hours ago")
        assert len(gateway.requests) == 20
        later = score.time.time() + 25 * 3600
        monkeypatch.setattr(score.time, "time", lambda: later)
        assert run([*given, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["due"] is True
        assert len(gateway.requests) == 40
    assert load_training_facts(tmp_path).scores == (HeldoutScore("suite", "base", 5, 20),)
    found = Ledger(tmp_path / "training").last_score()
    assert found is not None and (found.champion, found.policy, found.solved, found.n) == (None, "base", 5, 20)


def test_other_questions_make_it_due(tmp_path: Path) -> None:
    with ScriptedGateway(below_five) as gateway:
        given = configured(tmp_path, gateway.url)
        assert run(given) == 0
        with (tmp_path / "suite.jsonl").open("a") as file:
            file.write(json.dumps({"question": "30", "answer": 30}) + "\n")
        assert run(given) == 0
        assert len(gateway.requests) == 20 + 21


def test_a_score_of_some_of_the_questions_is_none(tmp_path: Path) -> None:
    def two_fail(body: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
        return refused(503, "busy") if int(body["messages"][-1]["content"]) < 2 else below_five(body)

    with (
        ScriptedGateway(two_fail) as gateway,
        pytest.raises(TrainingError, match=r"2 of 20 questions .*\(503 busy\)"),
    ):
        run(configured(tmp_path, gateway.url))
    assert Ledger(tmp_path / "training").last_score() is None and load_training_facts(tmp_path).scores == ()


def test_a_trainer_at_work_comes_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = configured(tmp_path, "http://127.0.0.1:9")
    (tmp_path / "training").mkdir()
    lock = try_lock(tmp_path / "training" / "lock")
    assert lock is not None
    assert run(given) == 75
    os.close(lock)
    assert "`thinktwice train` works on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "reason"), [([], "--candidate and --data"), (["--candidate", "p"], "--candidate and --data")]
)
def test_without_it_both_flags_are_needed(flags: list[str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        run(["evaluate", *flags])


def test_held_out_questions_are_needed(tmp_path: Path) -> None:
    given = configured(tmp_path, "http://127.0.0.1:9")
    file = Path(given[-1])
    file.write_text(file.read_text().replace("eval_data", "# eval_data"))
    with pytest.raises(ConfigError, match=r"set \[training\] eval_data"):
        run(given)
