"""The dashboards: made by the code that is committed, and asking only for metrics and labels that exist."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from gateway.telemetry.metrics import Metrics
from tests.support.compose import DEPLOY, ROOT, service
from tests.support.dashboards import FOLDER, PanelQuery, dashboards, grouping_labels, queries, selectors
from tests.support.shown_metrics import everything_shown

UNSEEN = {  # looked up when something is wrong
    "thinktwice_engine_info",
    "thinktwice_grouplog_appended_total",
    "thinktwice_label_overflow_total",
    "thinktwice_shadow_tokens_total",
}
LEARNT = {"suite", "model", "policy", "base_model", "engine", "version", "logprobs_mode"}  # labels without a closed set


@pytest.mark.parametrize("seed", ["1", "2"])
def test_the_committed_dashboards_are_what_the_code_makes(seed: str, tmp_path: Path) -> None:
    # In a process of its own: the SDK's classic schema warns of its newer one when it is imported.
    command = [sys.executable, "-m", "deploy.grafana", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, env={"PYTHONHASHSEED": seed}, check=True, capture_output=True)
    made, committed = (
        {path.name: path.read_bytes() for path in folder.glob("*.json")} for folder in (tmp_path, FOLDER)
    )
    assert len(made) == 7 and made == committed, "run `make docs`"


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Sequence[Mapping[str, str]]]:
    """The labels of every series of a gateway, by metric; a label that is learnt has one value here."""
    metrics = everything_shown(tmp_path_factory.mktemp("state"))
    found: dict[str, list[Mapping[str, str]]] = {
        "up": [{"job": job["job_name"]} for job in _scrapes()["scrape_configs"]],
    }
    for family in text_string_to_metric_families(metrics.render()[0].decode()):
        for sample in family.samples:
            labels = sample.labels | {"job": "thinktwice", "instance": "here"}
            found.setdefault(sample.name, []).append(labels)
    return found


@pytest.mark.parametrize("query", queries(), ids=lambda query: query.panel)
def test_a_query_names_metrics_and_labels_that_exist(
    query: PanelQuery, known: Mapping[str, Sequence[Mapping[str, str]]]
) -> None:
    labels: set[str] = set()
    for selector in selectors(query.expr):
        if selector.metric.startswith("vllm:"):  # asked of a real vLLM in tests/contract/test_deployed_vllm.py
            continue
        assert selector.metric in known, f"no metric {selector.metric}"
        series = known[selector.metric]
        labels |= series[0].keys()
        for label, values in selector.values.items():
            assert label in series[0], f"{selector.metric} has no label {label}"
            assert label not in LEARNT, f"{label} has no closed set to match against"
            assert set(values) <= {each[label] for each in series}, f"{label} of {selector.metric}"
    assert grouping_labels(query.expr) <= labels


def test_every_metric_is_on_a_dashboard_but_those_named_here() -> None:
    asked = {re.sub("_(bucket|sum|count)$", "", each.metric) for query in queries() for each in selectors(query.expr)}
    assert {family.name for family in Metrics().catalogue} - asked == UNSEEN


@pytest.mark.parametrize("query", queries(), ids=lambda query: query.panel)
def test_panels_for_users_count_ordinary_traffic_only(
    query: PanelQuery, known: Mapping[str, Sequence[Mapping[str, str]]]
) -> None:
    for selector in selectors(query.expr):
        if "purpose" in known.get(selector.metric, [{}])[0] and "purpose" not in grouping_labels(query.expr):
            assert selector.values.get("purpose") == ("prod", "audit"), selector.metric


def test_panels_ask_the_provisioned_datasource() -> None:
    provisioned = _datasource()
    for board in dashboards().values():
        for panel in board["panels"]:
            for asking in (panel, *panel.get("targets", ())):
                if panel["type"] != "row":
                    assert asking["datasource"] == {"type": provisioned["type"], "uid": provisioned["uid"]}


def test_the_datasource_knows_the_scrape_interval() -> None:
    assert _datasource()["jsonData"]["timeInterval"] == _scrapes()["global"]["scrape_interval"]


def test_the_provider_reads_the_folder_that_is_mounted() -> None:
    [provider] = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/thinktwice.yaml").read_text())["providers"]
    mounts = dict(volume.split(":")[:2] for volume in service("grafana")["volumes"])
    assert mounts["./grafana/dashboards"] == provider["options"]["path"]
    home = service("grafana")["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/overview.json" and (FOLDER / "overview.json").is_file()


def test_ids_in_a_dashboard_are_unique_and_panels_do_not_overlap() -> None:
    for name, board in dashboards().items():
        ids = [panel["id"] for panel in board["panels"]]
        cells = [cell for panel in board["panels"] for cell in _cells(panel["gridPos"])]
        assert len(ids) == len(set(ids)) and len(cells) == len(set(cells)), name
        assert all(x < 24 for x, _ in cells), name
        assert board["uid"] and json.dumps(board)


def _datasource() -> dict[str, Any]:
    file = DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yaml"
    [found] = yaml.safe_load(file.read_text())["datasources"]
    assert isinstance(found, dict)
    return found


def _scrapes() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    return found


def _cells(where: dict[str, int]) -> Iterator[tuple[int, int]]:
    for x in range(where["x"], where["x"] + where["w"]):
        yield from ((x, y) for y in range(where["y"], where["y"] + where["h"]))
