"""The answer cache, requests that share a computation, and the group log's disk."""

from __future__ import annotations

from grafana_foundation_sdk.models import units

from deploy.grafana.board import Board, Row
from deploy.grafana.panels import Panel, Query, Text, graph, state, tally
from deploy.grafana.promql import WINDOW, hits, increase, quantile_of_all, rate


def cache() -> Board:
    """The dashboard."""
    return Board(
        "cache",
        "cache and log",
        "The answer cache and Redis, shared computations, and the group log's disk.",
        [Row("Answer cache", _answers()), Row("Sharing and retries", _sharing()), Row("Group log", _log())],
    )


def _answers() -> list[Panel]:
    lookups = hits(WINDOW)
    return [
        graph(
            Text("Cache hit ratio", "Hits among hits and misses; lookups that bypass the cache or fail are not in it."),
            [
                Query(lookups.value, "hit ratio"),
                Query(lookups.low, "95 % from"),
                Query(lookups.high, "95 % to"),
            ],
            units.PercentUnit,
        ),
        graph(
            Text("Lookups", "A second, by result; `bypass`: `no-store`, or a request that is never cached."),
            [Query(rate("thinktwice_cache_lookups_total", "result"), "{{result}}")],
            units.OpsPerSecond,
        ),
        state(
            Text("State", "The store, and the breaker before Redis: `open` serves without it."),
            [
                Query("max(thinktwice_cache_up)", "store"),
                Query('1 - max(thinktwice_cache_breaker_state{state="open"})', "breaker"),
            ],
        ),
    ]


def _sharing() -> list[Panel]:
    return [
        tally(
            Text("Coalesced requests", "In the window: answered by another's computation, by where it ran."),
            "thinktwice_coalesced_requests_total",
            "{{leader}}",
            by="leader",
        ),
        tally(
            Text("Idempotency keys", "Requests with one in the window, by what became of them."),
            "thinktwice_idempotent_requests_total",
            "{{result}}",
            by="result",
        ),
        tally(
            Text("Rejected values", "Stored values in the window that were damaged or not written with this secret."),
            "thinktwice_cache_rejected_total",
            "rejected",
        ),
    ]


def _log() -> list[Panel]:
    return [
        graph(
            Text("Group log", "Groups waiting for the disk, and requests refused because they could not be logged."),
            [
                Query("sum(thinktwice_grouplog_queue_groups)", "waiting"),
                Query(increase("thinktwice_grouplog_refused_total", WINDOW), "refused in the window"),
            ],
            units.Short,
        ),
        graph(
            Text("Time of a group commit", "Median and 99th percentile of the window."),
            [Query(quantile_of_all(q, "thinktwice_grouplog_fsync_seconds"), f"p{100 * q:.0f}") for q in (0.5, 0.99)],
            units.Seconds,
        ),
        graph(
            Text("Files", "Of the group log, by state: `parquet` is what compaction made."),
            [Query("max by (state) (thinktwice_grouplog_segments)", "{{state}}")],
            units.Short,
        ),
    ]
