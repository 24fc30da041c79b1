"""The demonstration of the loop against a real gateway with the engine's double: its steps, and when one breaks."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from gateway.local.loop import HELDOUT, SAMPLES, TRAFFIC, LoopDemo
from router.errors import ConfigError, ThinkTwiceError
from router.settings import load_settings
from tests.support.gateway_process import GatewayProcess
from tests.support.mock_engine import Fault, MockEngine, Script
from tests.support.tiny_policy import save_tiny

CONFIG = """
[training]
eval_data = "{home}/heldout.jsonl"
due_groups = 1000

[log]
segment_s = 1
"""


@pytest.fixture
def engine() -> Iterator[MockEngine]:
    with MockEngine(default=Script(("Answer: 70", "Answer: 71", "Answer: 72"))) as engine:
        yield engine


def run(gateway: GatewayProcess, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> str:
    """Everything the demonstration and the commands it starts print."""
    monkeypatch.setenv("THINKTWICE_STATE__DIR", str(gateway.home / "state"))
    monkeypatch.setenv("THINKTWICE_LOG__DIR", str(gateway.log_dir))
    config, shown = gateway.home / "thinktwice.toml", io.StringIO()
    LoopDemo(gateway.url, load_settings(config), config, Console(file=shown, width=200)).run()
    return shown.getvalue() + capfd.readouterr().out


def test_traffic_then_the_scheduled_command_then_what_serves(
    engine: MockEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    save_tiny(tmp_path / "state" / "models" / "tiny")
    with GatewayProcess(tmp_path, engine.url, CONFIG.format(home=tmp_path)) as gateway:
        gateway.wait_for("/readyz", 200)
        shown = run(gateway, monkeypatch, capfd)
        heldout = [json.loads(line)["messages"] for line in (tmp_path / "heldout.jsonl").read_text().splitlines()]
        first = gateway.groups()
        assert run(gateway, monkeypatch, capfd)
    assert f"Traffic: {TRAFFIC} prompts" in shown and f"of {TRAFFIC * SAMPLES} (" in shown
    assert "not due: 0 new trainable groups, 1000 are needed" in shown
    assert "the base model, epoch 0 (as before: nothing was promoted)" in shown
    sent = [list(group.messages) for group in gateway.groups()]
    assert [len(group.samples) for group in first] == [SAMPLES] * TRAFFIC
    assert len(sent) == 2 * TRAFFIC and len(heldout) == HELDOUT
    questions = [messages[-1]["content"] for messages in (*sent, *heldout)]
    assert len(set(questions)) == len(questions)  # every run asks something new, and nothing that is held out


def test_an_engine_that_refuses_ends_it(
    engine: MockEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    engine.default = Script(("",), fault=Fault.REFUSE)
    with (
        GatewayProcess(tmp_path, engine.url, CONFIG.format(home=tmp_path)) as gateway,
        pytest.raises(ThinkTwiceError, match=f"{TRAFFIC} of {TRAFFIC} prompts were not answered"),
    ):
        run(gateway, monkeypatch, capfd)


def test_without_held_out_questions_there_is_nothing_to_judge_by() -> None:
    with pytest.raises(ConfigError, match=r"set \[training\] eval_data"):
        LoopDemo("http://127.0.0.1:9", load_settings(), None, Console())
