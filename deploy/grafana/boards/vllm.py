"""vLLM, by its own metrics (vLLM's documentation, "Metrics"; names of version 0.32)."""

from __future__ import annotations

from grafana_foundation_sdk.models import units

from deploy.grafana.board import Board, Row
from deploy.grafana.panels import Panel, Query, Text, graph
from deploy.grafana.promql import RATE, WINDOW, mean_of


def vllm() -> Board:
    """The dashboard."""
    return Board(
        "vllm",
        "vLLM",
        "The engines by their own metrics.",
        [Row("Load", _load()), Row("Where a request's time goes", _time(), 12)],
    )


def _load() -> list[Panel]:
    return [
        graph(
            Text("Requests", "Samples that vLLM is generating, and those that wait for it."),
            [
                Query("sum(vllm:num_requests_running)", "running"),
                Query("sum(vllm:num_requests_waiting)", "waiting"),
            ],
            units.Short,
        ),
        graph(
            Text("Memory", "Share of the KV cache in use, and of prompt tokens found in the prefix cache."),
            [
                Query("max(vllm:kv_cache_usage_perc)", "KV cache in use"),
                Query(
                    f"sum(rate(vllm:prefix_cache_hits_total[{WINDOW}]))"
                    f" / (sum(rate(vllm:prefix_cache_queries_total[{WINDOW}])) > 0)",
                    "prefix cache hits",
                ),
            ],
            units.PercentUnit,
        ),
        graph(
            Text("Tokens", "A second: prompts, cached ones included, and generated."),
            [
                Query(f"sum(rate(vllm:prompt_tokens_total[{RATE}]))", "prompt"),
                Query(f"sum(rate(vllm:generation_tokens_total[{RATE}]))", "generated"),
            ],
            units.Short,
        ),
    ]


def _time() -> list[Panel]:
    parts = ("queue", "prefill", "decode")
    return [
        graph(
            Text("Mean time of a sample", "In vLLM, of the window."),
            [
                Query(mean_of("vllm:e2e_request_latency_seconds"), "whole"),
                *(Query(mean_of(f"vllm:request_{part}_time_seconds"), part) for part in parts),
            ],
            units.Seconds,
        ),
        graph(
            Text("Mean time to first token and between tokens", "In vLLM, of the window."),
            [
                Query(mean_of("vllm:time_to_first_token_seconds"), "first token"),
                Query(mean_of("vllm:inter_token_latency_seconds"), "between tokens"),
            ],
            units.Seconds,
        ),
        graph(
            Text("Ended", "Samples a second that vLLM brought to an end, and preemptions for lack of memory."),
            [
                Query(f"sum(rate(vllm:request_success_total[{RATE}]))", "ended"),
                Query(f"sum(rate(vllm:num_preemptions_total[{RATE}]))", "preempted"),
            ],
            units.OpsPerSecond,
        ),
    ]
