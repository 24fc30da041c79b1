"""The committed dashboards over a real Prometheus that scrapes a real gateway: every panel has something to show."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.grafana.promql import Proportion
from router.stats import wilson
from tests.support.compose import DEPLOY, flags
from tests.support.dashboards import PanelQuery, queries, selectors
from tests.support.gateway_process import GatewayProcess
from tests.support.mock_engine import MODEL, MockEngine, Script
from tests.support.prometheus_server import Exporter, PrometheusServer, prometheus_folder
from tests.support.redis_server import RedisServer

SCRIPTS = {
    "mixed": Script(("I think \\boxed{5}", "No, \\boxed{3}", "It is \\boxed{4}")),
    "wrong": Script(("It is \\boxed{5}",)),
}
PRICES = f'[prices."{MODEL}"]\ninput = 1.0\noutput = 2.0\n'
SUM = {"checks": [{"type": "numeric", "reference": 4}]}
JUDGED, VERIFIED = 5, 3  # of ordinary traffic, a round
COUNTED = 'sum(thinktwice_answers_total{purpose="prod"})'
ORDINARY_A_ROUND = 8


def test_every_panel_has_something_to_show(served: PrometheusServer, panel_query: PanelQuery) -> None:
    ask = served.instant if panel_query.instant else (lambda expr: served.over(expr, 60))
    series = ask(panel_query.expr)
    assert any(each.finite for each in series), f"{panel_query.panel} shows nothing: {series}"
    for each in series:
        assert panel_query.labels <= each.labels.keys(), f"{panel_query.panel} names labels that its series lack"


def test_the_solve_rate_is_that_of_ordinary_traffic(served: PrometheusServer) -> None:
    shown = {query.panel: served.value(query.expr) for query in queries() if query.instant and not query.labels}
    assert shown["overview.json: Solve rate: solve rate"] == pytest.approx(VERIFIED / JUDGED)
    low, high = shown["overview.json: Solve rate: 95 % from"], shown["overview.json: Solve rate: 95 % to"]
    assert 0 < low < VERIFIED / JUDGED < high < 1
    assert shown["overview.json: Cost per solved: cost per verified answer"] > 0
    assert shown["overview.json: Cost per solved: answers without a price"] == 0


@pytest.mark.parametrize("successes, n", [(0, 1), (0, 30), (1, 1), (3, 5), (41, 80), (9_999, 10_000)])
def test_the_interval_is_wilsons(served: PrometheusServer, successes: int, n: int) -> None:
    shown = Proportion(f"vector({successes})", f"vector({n})")
    expected = wilson(successes, n)
    assert served.value(shown.value) == expected.value
    assert served.value(shown.low) == pytest.approx(expected.low, abs=1e-8)
    assert served.value(shown.high) == pytest.approx(expected.high, abs=1e-8)


def test_without_data_a_proportion_is_empty(served: PrometheusServer) -> None:
    nothing = Proportion("vector(0)", "vector(0)")
    assert [served.instant(expr) for expr in (nothing.value, nothing.low, nothing.high)] == [[], [], []]


@pytest.fixture(params=queries(), ids=lambda query: query.panel)
def panel_query(request: pytest.FixtureRequest) -> PanelQuery:
    query: PanelQuery = request.param
    return query


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    """A Prometheus that has scraped the gateway before, between and after two rounds of traffic of every kind."""
    folder, home = prometheus_folder(), tmp_path_factory.mktemp("dashboards")
    redis = RedisServer()
    redis.start()
    env = {"THINKTWICE_REDIS__URL": redis.url}
    try:
        with (
            MockEngine(SCRIPTS) as engine,
            GatewayProcess(home / "gateway", engine.url, config=PRICES, env=env) as gateway,
            Exporter(sorted(_vllm_metrics())) as vllm,
            PrometheusServer(folder, _made(home / "tsdb"), _config(gateway.port, vllm.port), _flags()) as prometheus,
        ):
            gateway.wait_for("/readyz", 200)
            prometheus.wait_for(COUNTED, 0)
            prometheus.wait_for("thinktwice_engine_up", 1)
            for number in (1, 2):
                _drive(gateway.url, number)
                prometheus.wait_for(COUNTED, number * ORDINARY_A_ROUND)
            yield prometheus
    finally:
        redis.stop()


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _config(gateway_port: int, vllm_port: int) -> str:
    """The committed configuration with the ports of this run, and an interval a test can wait for."""
    text = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
    for committed, here in {
        "127.0.0.1:8000": f"127.0.0.1:{gateway_port}",
        "127.0.0.1:8100": f"127.0.0.1:{vllm_port}",
        "scrape_interval: 15s": "scrape_interval: 1s",
    }.items():
        assert text.count(committed) == 1, f"{committed} is not there once"
        text = text.replace(committed, here)
    return text


def _flags() -> list[str]:
    """The flags of the committed command line, but for the paths and the address, which are this run's."""
    given = flags("prometheus")
    for ours in ("config.file", "storage.tsdb.path", "web.listen-address"):
        del given[ours]
    return [f"--{name}={value}" for name, value in given.items()]


def _vllm_metrics() -> set[str]:
    found = {selector.metric for query in queries() for selector in selectors(query.expr)}
    return {name for name in found if name.startswith("vllm:")}


def _drive(url: str, number: int) -> None:
    """A round of every kind of request. Of ordinary traffic 8 are answered, 5 of them judged and 3 verified."""

    def chat(text: str, verification: dict[str, Any] | None = None, status: int = 200, **fields: Any) -> str:
        headers = {"X-Thinktwice-Purpose": fields.pop("purpose")} if "purpose" in fields else {}
        messages = [{"role": "user", "content": f"Round {number}. {text}"}]
        body = {"model": "champion", "messages": messages, **({"verification": verification} if verification else {})}
        answered, answer = _post(f"{url}/v1/chat/completions", body | fields, headers)
        assert answered == status, answer
        return answer

    assert '"escalated":true' in chat("mixed feelings", SUM)
    assert '"route":"cache"' in chat("mixed feelings", SUM)
    assert '"status":"verified"' in chat("a vote", SUM, reasoning_effort="high")
    assert "content_filter" in chat("wrong", SUM | {"on_failure": "refuse"})
    chat("wrong again", SUM | {"on_failure": "error"}, status=422)
    assert '"status":"consensus"' in chat("What is 2 + 2?", reasoning_effort="high")
    assert '"route":"single"' in chat("steady")
    assert "[DONE]" in chat("streamed", stream=True)
    chat("an evaluation", SUM, purpose="eval")
    chat("no such field", nonsense=1, status=400)
    chat("no such model", model="nonesuch", status=404)
    for route, text in (("completions", "prompt"), ("embeddings", "input")):
        assert _post(f"{url}/v1/{route}", {"model": "champion", text: "steady"}, {})[0] == 200


def _post(url: str, body: dict[str, Any], headers: dict[str, str]) -> tuple[int, str]:
    named = {"Content-Type": "application/json", **headers}
    request = urllib.request.Request(url, json.dumps(body).encode(), named)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
