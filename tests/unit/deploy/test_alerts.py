"""The alerts ask for metrics that exist, and fire when they should."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from gateway.telemetry.metrics import Metrics
from gateway.telemetry.trust_families import Audit
from tests.support.compose import DEPLOY, ROOT, service
from tests.support.prometheus_server import prometheus_folder

FILE, RECORDED = (DEPLOY / "prometheus" / name for name in ("alerts.yml", "rules.yml"))
RULES, RECORDS = (
    [rule for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]
    for file in (FILE, RECORDED)
)
RUNBOOKS = ROOT / "docs" / "runbooks.md"
CASES = ("audit_alerts.yml", "alert_cases.yml")


@pytest.mark.parametrize("rule", RULES + RECORDS, ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_names_metrics_and_records_that_exist(rule: dict[str, str]) -> None:
    promql_parser.parse(rule["expr"])
    known = {family.name for family in Metrics().catalogue} | {each["record"] for each in RECORDS}
    histograms = [family.name for family in Metrics().catalogue if family.kind == "histogram"]
    known |= {name + part for name in histograms for part in ("_bucket", "_count")}
    names = set(re.findall(r"thinktwice[\w:]+", rule["expr"].replace('job="thinktwice"', "")))
    assert names <= known and (names or "up{" in rule["expr"])


def test_prometheus_reads_them() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    assert config["rule_files"] == ["rules*.yml", "alerts*.yml"]
    mounted = {Path(volume.split(":")[0]).name for volume in service("prometheus")["volumes"]}
    assert {FILE.name, RECORDED.name} <= mounted
    command = [prometheus_folder() / "promtool", "check", "rules", FILE, RECORDED]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_has_a_runbook_and_cases(rule: dict[str, Any]) -> None:
    name = rule["alert"]
    assert rule["annotations"]["runbook_url"] == f"docs/runbooks.md#{name.lower()}"
    section = RUNBOOKS.read_text().split(f"\n## {name}\n")
    assert len(section) == 2, f"{name} has no section in docs/runbooks.md"
    text = section[1].split("\n## ")[0]
    assert all(f"**{part}**" in text for part in ("Means.", "Look at.", "Do."))
    fires = [
        test
        for cases in CASES
        for group in yaml.safe_load(Path(__file__).with_name(cases).read_text())["tests"]
        for test in group.get("alert_rule_test", ())
        if test["alertname"] == name and test.get("exp_alerts")
    ]
    assert fires, f"no case in which {name} fires"


def test_every_runbook_is_of_an_alert() -> None:
    assert set(re.findall(r"^## (\w+)$", RUNBOOKS.read_text(), re.MULTILINE)) == {rule["alert"] for rule in RULES}


def test_they_name_results_and_checks_that_are_counted() -> None:
    for rule in RULES:
        for names in re.findall(r'result[!=~]+"([^"]+)"', rule["expr"]):
            assert set(names.split("|")) <= set(Audit)
        for name in re.findall(r'verifier[!=~]+"([^"]+)"', rule["expr"]):
            assert f'verifier="{name}"' in Metrics().render()[0].decode()


@pytest.mark.parametrize("name", CASES)
def test_they_fire_when_they_should(name: str, tmp_path: Path) -> None:
    cases = Path(__file__).with_name(name).read_text().replace("RULES", str(FILE)).replace("RECORDED", str(RECORDED))
    (tmp_path / "cases.yml").write_text(cases)
    command = [prometheus_folder() / "promtool", "test", "rules", tmp_path / "cases.yml"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
