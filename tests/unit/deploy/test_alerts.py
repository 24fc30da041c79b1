"""The alerts ask for metrics that exist."""

from __future__ import annotations

import re

import promql_parser
import pytest
import yaml

from gateway.telemetry.metrics import Metrics
from tests.support.compose import DEPLOY

RULES = [
    rule
    for group in yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_parses_and_names_metrics_that_exist(rule: dict[str, str]) -> None:
    promql_parser.parse(rule["expr"])
    names = set(re.findall(r"thinktwice_\w+", rule["expr"]))
    assert names and names <= {family.name for family in Metrics().catalogue}


def test_prometheus_reads_them() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    assert config["rule_files"] == ["alerts*.yml"]
