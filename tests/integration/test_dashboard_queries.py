"""The committed dashboards over a real Prometheus that scrapes a real gateway: every panel has something to show."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.grafana.promql import Proportion
from router.stats import wilson
from tests.support.dashboard_stack import COUNTED, JUDGED, ORDINARY_A_ROUND, VERIFIED, running_stack
from tests.support.dashboards import PanelQuery, queries
from tests.support.prometheus_server import PrometheusServer


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


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    """A Prometheus that has scraped the gateway before, between and after two rounds of traffic of every kind."""
    with running_stack(tmp_path_factory.mktemp("dashboards")) as stack:
        for number in (1, 2):
            stack.round(number)
            stack.prometheus.wait_for(COUNTED, number * ORDINARY_A_ROUND)
        stack.prometheus.wait_for("count(sum_over_time(max(thinktwice_engine_up)[5m:5s]))", 1)  # as `promql.idle` steps
        yield stack.prometheus


@pytest.fixture(params=queries(), ids=lambda query: query.panel)
def panel_query(request: pytest.FixtureRequest) -> PanelQuery:
    query: PanelQuery = request.param
    return query
