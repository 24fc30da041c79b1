"""`thinktwice simulate` and `calibrate`, through their own parsers."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gateway.commands import calibrate, simulate
from router.calibration.file import FILE_NAME, load_calibration
from router.errors import CalibrationError, ConfigError
from tests.support.banks import bank_rows, larger_rows, write_bank

Run = Callable[..., int]


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    return write_bank(tmp_path / "bank.jsonl", bank_rows(60))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THINKTWICE_STATE__DIR", str(tmp_path / "state"))

    def invoke(command: ModuleType, *arguments: str) -> int:
        parser = argparse.ArgumentParser()
        command.register(parser.add_subparsers())
        args = parser.parse_args([command.__name__.rpartition(".")[2], *arguments])
        code: int = args.run(args)
        return code

    return invoke


def test_simulate_prints_json_and_writes_a_page_that_needs_nothing_else(
    run: Run, bank: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "out.html"
    assert run(simulate, "--bank", str(bank), "--orders", "2", "--json", "--report", str(page)) == 0
    found = json.loads(capsys.readouterr().out)
    names = [each["name"] for each in found["views"][0]["policies"]]
    assert found["prompts"] == 60 and {"always-1", "one at a time", "oracle", "plan", "plan, learned"} <= set(names)
    html = page.read_text()
    low, mean, high = found["calibration"]["ece_floor"]
    assert f"a perfect estimate on this bank: {mean:.3f} [{low:.3f}, {high:.3f}]" in html
    assert html.count("<svg") == 5 and "</html>" in html and "Adaptive-Consistency" in html
    assert "src=" not in html and "http" not in html.replace("http://www.w3.org", "")


def test_a_larger_models_bank_is_replayed_as_the_last_wave(
    run: Run, bank: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    larger = write_bank(tmp_path / "larger.jsonl", larger_rows(bank_rows(60)))
    prices = "[prices.small]\ninput = 1.0\noutput = 2.0\n[prices.big]\ninput = 10.0\noutput = 20.0\n"
    (tmp_path / "thinktwice.toml").write_text(prices)
    options = ("--larger-bank", str(larger), "--larger-model", "big", "--model", "small", "--orders", "2", "--json")
    assert run(simulate, "--bank", str(bank), *options) == 0
    views = json.loads(capsys.readouterr().out)["views"]
    for view in views:
        table = {each["name"]: each for each in view["policies"]}
        small, both, big = table["plan"], table["escalate"], table["larger alone"]
        assert both["samples"]["value"] <= small["samples"]["value"] + 1 and big["samples"]["value"] == pytest.approx(1)
        assert small["cost_per_solved"]["value"] > 0 and both["cost_per_solved"]["value"] > 0
    checked = {each["name"]: each["solve_rate"]["value"] for each in views[0]["policies"]}
    assert checked["escalate"] > checked["plan"]


def test_a_larger_bank_of_other_problems_is_refused(run: Run, bank: Path, tmp_path: Path) -> None:
    larger = write_bank(tmp_path / "larger.jsonl", larger_rows(bank_rows(50)))
    with pytest.raises(ConfigError, match=r"lacks 10 problems, 'p50' the first"):
        run(simulate, "--bank", str(bank), "--larger-bank", str(larger))


def test_calibrate_writes_what_a_gateway_reads(run: Run, bank: Path, tmp_path: Path, capsys: Any) -> None:
    assert run(calibrate, "--bank", str(bank), "--policy", "base") == 0
    written = load_calibration(tmp_path / "state" / FILE_NAME)
    assert (written.policy, written.prompts, written.samples) == ("base", 60, 300)
    out = capsys.readouterr().out
    assert "calibration error" in out and str(tmp_path / "state" / FILE_NAME) in out


def test_calibrate_finds_what_a_solve_rate_costs(
    run: Run, bank: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for target in ("0.75", "0.999"):
        monkeypatch.setenv("THINKTWICE_ROUTER__SOLVE_RATE_TARGET", target)
        assert run(calibrate, "--bank", str(bank), "--policy", "base") == 0
        found.append(load_calibration(tmp_path / "state" / FILE_NAME).target)
    near, far = found
    assert near is not None and near.value is not None and near.value > 0 and near.reached >= 0.75
    assert far is not None and far.value is None and 0.75 < far.reached < 0.999
    out = capsys.readouterr().out
    assert f"is expected where a solved task is worth {near.value:.0f} completion tokens" in out
    assert "99.9% is out of reach" in out


def test_a_dry_run_writes_nothing(run: Run, bank: Path, tmp_path: Path) -> None:
    assert run(calibrate, "--bank", str(bank), "--policy", "base", "--dry-run", "--json") == 0
    assert not (tmp_path / "state" / FILE_NAME).exists()


def test_too_little_leaves_what_was_there(run: Run, bank: Path, tmp_path: Path) -> None:
    run(calibrate, "--bank", str(bank), "--policy", "base")
    before = (tmp_path / "state" / FILE_NAME).read_bytes()
    small = write_bank(tmp_path / "small.jsonl", bank_rows(12))
    with pytest.raises(CalibrationError, match=r"12 prompts .* the heuristic stays"):
        run(calibrate, "--bank", str(small), "--policy", "base")
    never = write_bank(tmp_path / "never.jsonl", larger_rows(bank_rows(60), rate=0.0))
    with pytest.raises(CalibrationError, match=r"no sample solved its prompt.* the heuristic stays"):
        run(calibrate, "--bank", str(never), "--policy", "base")
    assert (tmp_path / "state" / FILE_NAME).read_bytes() == before


@pytest.mark.parametrize("command", [simulate, calibrate])
def test_no_log_and_an_empty_log_say_what_to_do(run: Run, tmp_path: Path, command: ModuleType) -> None:
    with pytest.raises(ConfigError, match=r"no group log in .* --bank"):
        run(command, "--dir", str(tmp_path / "none"))
    (tmp_path / "log").mkdir()
    with pytest.raises(ConfigError, match="is empty: serve some traffic"):
        run(command, "--dir", str(tmp_path / "log"))


def test_a_bank_without_a_policy_has_no_owner(run: Run, bank: Path) -> None:
    with pytest.raises(ConfigError, match="Name the policy with --policy"):
        run(calibrate, "--bank", str(bank))


def test_a_bank_of_a_few_prompts_is_not_simulated(run: Run, tmp_path: Path) -> None:
    small = write_bank(tmp_path / "small.jsonl", bank_rows(4))
    with pytest.raises(ConfigError, match=r"4 full groups .* 10 are needed"):
        run(simulate, "--bank", str(small))
