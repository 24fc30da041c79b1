"""Metrics that are read when `/metrics` is asked, in place of being counted with every request."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from gateway.telemetry.families import PREFIX, Family


def collected(name: str, kind: str, help: str, labels: tuple[str, ...] = ()) -> Family:
    """A family of the kind `counter` or `gauge`; the name is without the prefix."""
    return Family(PREFIX + name, kind, labels, help)


def series(family: Family, values: Mapping[tuple[str, ...], float]) -> CounterMetricFamily | GaugeMetricFamily:
    """The family with these values, by its labels' values; a family without values has no series."""
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = kind(family.name.removesuffix("_total"), family.help, labels=family.labels)
    for labels, value in values.items():
        metric.add_metric(labels, value)
    return metric
