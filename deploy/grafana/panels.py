"""What every panel of our dashboards has in common: the datasource, the units' precision, the legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from grafana_foundation_sdk.builders import common, prometheus, stat, timeseries
from grafana_foundation_sdk.models import common as models
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue, ValueMap, ValueMapping, ValueMappingResult
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from deploy.grafana.promql import WINDOW, increase

DATASOURCE = models.DataSourceRef(type_val="prometheus", uid="thinktwice-prometheus")
UP_OR_DOWN: Sequence[ValueMapping] = [
    ValueMap({"0": ValueMappingResult(text="down", color="red"), "1": ValueMappingResult(text="up", color="green")})
]
_FILL = 10  # per cent
_REFS = "ABCDEFGH"  # what Grafana calls the queries of a panel

Panel: TypeAlias = stat.Panel | timeseries.Panel


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL expression and what its series are called; `{{label}}` stands for a label's value."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class Text:
    """A panel's title, and the sentence behind its `i`."""

    title: str
    description: str


def figure(text: Text, queries: Sequence[Query], unit: str, counts: Sequence[str] = ()) -> stat.Panel:
    """Single values over the dashboard's whole time range. Those whose legend is in `counts` are plain numbers."""
    panel = (
        stat.Panel()
        .title(text.title)
        .description(text.description)
        .datasource(DATASOURCE)
        .unit(unit)
        .no_value("no data")
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .text_mode(models.BigValueTextMode.VALUE_AND_NAME)
        .graph_mode(models.BigValueGraphMode.NONE)
        .color_mode(models.BigValueColorMode.NONE)
    )
    for query, ref in zip(queries, _REFS, strict=False):
        panel.with_target(_target(query, ref).instant())
    for name in counts:
        plain = [DynamicConfigValue("unit", units.Short), DynamicConfigValue("decimals", 0)]
        panel.override_by_name(name, plain)
    return panel


def state(text: Text, queries: Sequence[Query]) -> stat.Panel:
    """Gauges of 0 or 1, shown as down or up."""
    panel = figure(text, queries, units.Short)
    return panel.mappings(list(UP_OR_DOWN)).color_mode(models.BigValueColorMode.VALUE)


def names(text: Text, query: Query) -> stat.Panel:
    """The legends of a query's series, which are facts about who serves."""
    return figure(text, [query], units.Short).text_mode(models.BigValueTextMode.NAME)


def graph(text: Text, queries: Sequence[Query], unit: str, *, from_zero: bool = True) -> timeseries.Panel:
    """Series over time."""
    panel = (
        timeseries.Panel()
        .title(text.title)
        .description(text.description)
        .datasource(DATASOURCE)
        .unit(unit)
        .fill_opacity(_FILL)
        .legend(common.VizLegendOptions().display_mode(models.LegendDisplayMode.LIST).show_legend(True))
    )
    for query, ref in zip(queries, _REFS, strict=False):
        panel.with_target(_target(query, ref).range())
    return panel.min(0) if from_zero else panel


def tally(text: Text, metric: str, legend: str, *, by: str = "") -> timeseries.Panel:
    """How far a counter went in the window, in all or by a label."""
    return graph(text, [Query(increase(metric, WINDOW, by=by), legend)], units.Short)


def _target(query: Query, ref: str) -> prometheus.Dataquery:
    return (
        prometheus.Dataquery()
        .datasource(DATASOURCE)
        .ref_id(ref)
        .expr(query.expr)
        .legend_format(query.legend)
        .format(PromQueryFormat.TIME_SERIES)
    )
