"""`thinktwice evaluate` through a real gateway process: its fields are admitted, nothing is logged for training."""

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.tenants.key_file import KeyFile
from gateway.tenants.keys import Role
from router.enums import Purpose
from router.errors import TrainingError
from router.registry import PolicyRegistry
from tests.support.gateway_process import GatewayProcess
from tests.support.mock_engine import MODEL, MockEngine, Script
from training.evaluate_command import register

QUESTIONS = 6


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def registered(home: Path) -> str:
    folder = home / "adapter"
    folder.mkdir(parents=True)
    (folder / "adapter.safetensors").write_text("weights")
    return PolicyRegistry(home / "state").register(folder, {"base_model": MODEL}, "test")


def test_two_policies_of_one_gateway_are_compared(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = registered(home)
    data = home / "rows.jsonl"
    data.write_text("".join(json.dumps({"question": f"{n} + 0 = ?", "answer": n}) + "\n" for n in range(QUESTIONS)))
    scripts = {f"{n} +": Script((f"Answer: {n if n < 4 else 99}",)) for n in range(QUESTIONS)}
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers())
    with MockEngine(scripts) as engine, GatewayProcess(home, engine.url) as gateway:
        flags = ["--candidate", policy, "--data", str(data), "--url", gateway.url, "--samples", "2", "--json"]
        args = parser.parse_args(["evaluate", *flags])
        assert args.run(args) == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert report["verdict"] == "hold" and (report["pairs"], report["both"], report["neither"]) == (QUESTIONS, 4, 2)
    assert {arm: each["policy"] for arm, each in report["arms"].items()} == {"candidate": policy, "champion": MODEL}
    chats = engine.chats("+ 0 = ?")
    assert {body["model"] for body in chats} == {policy, MODEL}
    assert len({(body["model"], body["messages"][-1]["content"]) for body in chats}) == 2 * QUESTIONS
    assert {record.purpose for record in gateway.groups()} == {Purpose.EVAL}


def test_a_gateway_with_keys_takes_evaluations_from_admins_only(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = registered(home)
    data = home / "rows.jsonl"
    data.write_text('{"question": "2 + 2 = ?", "answer": 4}\n')
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers())
    keys = KeyFile(home / "state")
    user, admin = keys.create("team", Role.USER)[0], keys.create("team", Role.ADMIN)[0]
    with MockEngine() as engine, GatewayProcess(home, engine.url) as gateway:
        gateway.wait_for("/readyz", 200)
        args = parser.parse_args(
            ["evaluate", "--candidate", policy, "--data", str(data), "--url", gateway.url, "--json"]
        )
        for key in ("", user):
            monkeypatch.setenv("THINKTWICE_API_KEY", key)
            with pytest.raises(TrainingError):
                args.run(args)
        monkeypatch.setenv("THINKTWICE_API_KEY", admin)
        assert args.run(args) == 0
