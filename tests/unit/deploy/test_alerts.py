"""The alerts ask for metrics that exist, and fire when they should."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import promql_parser
import pytest
import yaml

from gateway.telemetry.metrics import Metrics
from gateway.telemetry.trust_families import Audit
from tests.support.compose import DEPLOY
from tests.support.prometheus_server import prometheus_folder

FILE = DEPLOY / "prometheus" / "alerts.yml"
RULES = [rule for group in yaml.safe_load(FILE.read_text())["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_parses_and_names_metrics_that_exist(rule: dict[str, str]) -> None:
    promql_parser.parse(rule["expr"])
    names = set(re.findall(r"thinktwice_\w+", rule["expr"]))
    assert names and names <= {family.name for family in Metrics().catalogue}


def test_prometheus_reads_them() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    assert config["rule_files"] == ["alerts*.yml"]


def test_they_name_results_and_checks_that_are_counted() -> None:
    for rule in RULES:
        for names in re.findall(r'result[!=~]+"([^"]+)"', rule["expr"]):
            assert set(names.split("|")) <= set(Audit)
        for name in re.findall(r'verifier[!=~]+"([^"]+)"', rule["expr"]):
            assert f'verifier="{name}"' in Metrics().render()[0].decode()


def test_they_fire_when_they_should(tmp_path: Path) -> None:
    cases = Path(__file__).with_name("audit_alerts.yml").read_text().replace("RULES", str(FILE))
    (tmp_path / "cases.yml").write_text(cases)
    command = [prometheus_folder() / "promtool", "test", "rules", tmp_path / "cases.yml"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
