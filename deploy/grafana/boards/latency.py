"""Latency and saturation: how long answers take, where the time goes, and what is full."""

from __future__ import annotations

from grafana_foundation_sdk.models import units

from deploy.grafana.board import Board, Row
from deploy.grafana.boards.overview import ALL_TRAFFIC
from deploy.grafana.panels import Panel, Query, Text, graph, tally
from deploy.grafana.promql import average, quantile, rate

_HISTOGRAMS = (
    ("Latency by route", "Wall time of answered requests.", "thinktwice_request_duration_seconds", 'outcome="ok"'),
    ("Time to first token", "Until the first content left.", "thinktwice_time_to_first_token_seconds", ""),
    ("Overhead", "Wall time outside the engine and the verifiers.", "thinktwice_overhead_seconds", ""),
)


def latency() -> Board:
    """The dashboard."""
    return Board(
        "latency",
        "latency and saturation",
        "How long answers take, where the time goes, and what is full.",
        [
            Row("Latency", [_quantiles(*each) for each in _HISTOGRAMS]),
            Row("Load", _load()),
            Row("Engines", _engines()),
        ],
    )


def _quantiles(title: str, about: str, histogram: str, matchers: str) -> Panel:
    queries = [
        Query(quantile(q, histogram, "route", matchers), f"{{{{route}}}} p{100 * q:.0f}") for q in (0.5, 0.95, 0.99)
    ]
    return graph(Text(title, f"{about} {ALL_TRAFFIC}"), queries, units.Seconds)


def _load() -> list[Panel]:
    return [
        graph(
            Text(
                "In flight", "Requests being served, those among them that wait for room, and samples at the engines."
            ),
            [
                Query("sum(thinktwice_inflight_requests)", "requests"),
                Query("sum(thinktwice_queued_requests)", "waiting"),
                Query("sum(thinktwice_inflight_samples)", "samples"),
            ],
            units.Short,
        ),
        graph(
            Text("Event loop lag", "How late a process ran its last timer. Above 0.1 s a core is too few."),
            [Query("max by (instance) (thinktwice_event_loop_lag_seconds)", "{{instance}}")],
            units.Seconds,
        ),
        graph(
            Text("Processor", "Cores in use, by process."),
            [
                Query(
                    'sum by (instance) (rate(process_cpu_seconds_total{job="thinktwice"}[$__rate_interval]))',
                    "{{instance}}",
                )
            ],
            units.Short,
        ),
        tally(
            Text("Not admitted", "Requests turned away in the window, by error code."),
            "thinktwice_denied_requests_total",
            "{{code}}",
            by="code",
        ),
        graph(
            Text("What ended sampling", "Groups a second; `shed`: the engines were busy, so votes were smaller."),
            [Query(rate("thinktwice_groups_stopped_total", "route, stopped") + " > 0", "{{route}} {{stopped}}")],
            units.OpsPerSecond,
        ),
        graph(
            Text("Samples per request", f"Mean of the window; answers from the cache are not in it. {ALL_TRAFFIC}"),
            [Query(average("thinktwice_samples_per_request", "route"), "{{route}}")],
            units.Short,
        ),
    ]


def _engines() -> list[Panel]:
    return [
        graph(
            Text("Engines by state", "`open`: its breaker is; `unfit`: unlike the others, or not yet known."),
            [Query("max by (state) (thinktwice_engine_replicas)", "{{state}}")],
            units.Short,
        ),
        tally(
            Text("Failovers", "Requests in the window that went on to a second engine."),
            "thinktwice_engine_failovers_total",
            "failovers",
        ),
        graph(
            Text("How samples ended", "A second; `cancelled`: what an early stop saved."),
            [Query(rate("thinktwice_samples_total", "finish") + " > 0", "{{finish}}")],
            units.Short,
        ),
    ]
