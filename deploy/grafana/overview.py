"""The overview dashboard as code. `python -m deploy.grafana.overview` prints its JSON.

It is Grafana's classic schema: a server provisions that one from a file, and newer ones migrate it when they read it.
"""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, VariableOption

from deploy.grafana.panels import Panel, Query, Text, figure, graph, names, state
from deploy.grafana.promql import (
    NOW,
    ORDINARY,
    WINDOW,
    average,
    cost_per_solved,
    hits,
    increase,
    quantile,
    rate,
    solved,
)

UID = "thinktwice-overview"
_ORDINARY_ONLY = "Evaluations and replays do not count."
_ALL_TRAFFIC = "Counts all traffic, evaluations too: this metric does not tell them apart."
_WINDOWS = ("5m", "15m", "1h", "6h", "1d")


def overview() -> str:
    """The dashboard as JSON; the same code gives the same text."""
    board = (
        dashboard.Dashboard("thinktwice overview")
        .uid(UID)
        .description("What is solved, what it costs, and whether everything is up.")
        .tags(["thinktwice"])
        .time("now-6h", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(_window())
    )
    rows = {
        "What is solved, and for how much": (_headline(), 6, 5),
        "Over time": (_outcomes(), 8, 8),
        "Samples, tokens and the cache": (_work(), 8, 8),
        "Latency": (_latency(), 12, 8),
        "Machinery": (_machinery(), 8, 8),
    }
    number = 0
    for title, (panels, width, height) in rows.items():
        number += 1
        board.with_row(dashboard.Row(title).id(number))
        for panel in panels:
            number += 1
            board.with_panel(panel.id(number).span(width).height(height))
    return JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n"


def _window() -> dashboard.CustomVariable:
    """How far back the ratios and quantiles look: short shows changes, long has counts enough to mean something."""
    options = [VariableOption(text=each, value=each, selected=each == "1h") for each in _WINDOWS]
    variable = dashboard.CustomVariable("window").label("Ratios over the last").values(",".join(_WINDOWS))
    return variable.options(options).current(VariableOption(text="1h", value="1h", selected=True))


def _headline() -> list[Panel]:
    judged, verified = solved(NOW), "verified answers"
    return [
        figure(
            Text(
                "Solve rate",
                "Verified answers among those verified or failed, so among those a decisive check judged, with the "
                f"95 % Wilson interval and how many they were. {_ORDINARY_ONLY}",
            ),
            [
                Query(judged.value, "solve rate"),
                Query(judged.low, "95 % from"),
                Query(judged.high, "95 % to"),
                Query(judged.n, "judged answers"),
            ],
            units.PercentUnit,
            counts=["judged answers"],
        ),
        figure(
            Text(
                "Cost per solved",
                "All dollars spent on ordinary traffic, checked or not, for each verified answer. Answers of a model "
                f"without a configured price add no dollars: they are counted beside it. {_ORDINARY_ONLY}",
            ),
            [
                Query(cost_per_solved(NOW), "cost per verified answer"),
                Query(judged.successes, verified),
                Query(increase("thinktwice_unpriced_answers_total", NOW), "answers without a price"),
            ],
            units.Dollars,
            counts=[verified, "answers without a price"],
        ),
        state(
            Text(
                "Up", "The gateway and vLLM as Prometheus reaches them; the engine and the cache as the gateway does."
            ),
            [
                Query('max by (job) (up{job=~"thinktwice|vllm"})', "{{job}} scraped"),
                Query("min(thinktwice_engine_up)", "engine"),
                Query("max(thinktwice_cache_up)", "cache"),
            ],
        ),
        names(
            Text("Policy in service", "The champion. After a promotion each gateway follows within two seconds."),
            Query("max by (policy, base_model) (thinktwice_policy_info)", "{{policy}} on {{base_model}}"),
        ),
    ]


def _outcomes() -> list[Panel]:
    judged = solved(WINDOW)
    return [
        graph(
            Text("Solve rate", f"As above, over the window chosen at the top. {_ORDINARY_ONLY}"),
            [
                Query(judged.value, "solve rate"),
                Query(judged.low, "95 % from"),
                Query(judged.high, "95 % to"),
            ],
            units.PercentUnit,
        ),
        graph(
            Text("Answers by route and status", f"What is claimed of the answers, a second. {_ORDINARY_ONLY}"),
            [Query(rate("thinktwice_answers_total", "route, status", ORDINARY) + " > 0", "{{route}} {{status}}")],
            units.RequestsPerSecond,
        ),
        graph(
            Text(
                "Requests by route and HTTP status",
                f"`none`: ended before a route was taken. `refused`: withheld by `on_failure`. {_ALL_TRAFFIC}",
            ),
            [
                Query(
                    rate("thinktwice_requests_total", "route, outcome, code_class") + " > 0",
                    "{{route}} {{outcome}} {{code_class}}",
                ),
                Query(rate("thinktwice_errors_total", "code") + " > 0", "error {{code}}"),
            ],
            units.RequestsPerSecond,
        ),
        graph(
            Text("Cost per solved", f"As above, over the window chosen at the top. {_ORDINARY_ONLY}"),
            [Query(cost_per_solved(WINDOW), "cost per verified answer")],
            units.Dollars,
        ),
        graph(
            Text("Spending by purpose", "Dollars in the window, by what the traffic is for: `eval` is our own."),
            [Query(increase("thinktwice_cost_usd_total", WINDOW, by="purpose"), "{{purpose}}")],
            units.Dollars,
        ),
        graph(
            Text("Judged answers", "How many answers stand behind the solve rate and the cost per solved."),
            [Query(judged.n, "judged"), Query(judged.successes, "verified")],
            units.Short,
        ),
    ]


def _work() -> list[Panel]:
    lookups = hits(WINDOW)
    return [
        graph(
            Text("Samples per request", f"Mean of the window; answers from the cache are not in it. {_ALL_TRAFFIC}"),
            [Query(average("thinktwice_samples_per_request", "route"), "{{route}}")],
            units.Short,
        ),
        graph(
            Text("Tokens", f"Of all samples, a second; `input` is without `cached_input`. {_ORDINARY_ONLY}"),
            [Query(rate("thinktwice_tokens_total", "type", ORDINARY), "{{type}}")],
            units.Short,
        ),
        graph(
            Text("Cache hit ratio", "Hits among hits and misses; lookups that bypass the cache or fail are not in it."),
            [
                Query(lookups.value, "hit ratio"),
                Query(lookups.low, "95 % from"),
                Query(lookups.high, "95 % to"),
            ],
            units.PercentUnit,
        ),
    ]


def _latency() -> list[Panel]:
    panels: list[Panel] = []
    for title, about, histogram, matchers in (
        ("Latency by route", "Wall time of answered requests.", "thinktwice_request_duration_seconds", 'outcome="ok"'),
        ("Time to first token", "Until the first content left.", "thinktwice_time_to_first_token_seconds", ""),
    ):
        queries = [
            Query(quantile(q, histogram, "route", matchers), f"{{{{route}}}} p{100 * q:.0f}") for q in (0.5, 0.95)
        ]
        panels.append(graph(Text(title, f"{about} {_ALL_TRAFFIC}"), queries, units.Seconds))
    return panels


def _machinery() -> list[Panel]:
    return [
        graph(
            Text("Verifier outcomes", "Checks a second. `error` and `timeout` are ours: neither a pass nor a fail."),
            [Query(rate("thinktwice_verifications_total", "verifier, outcome") + " > 0", "{{verifier}} {{outcome}}")],
            units.OpsPerSecond,
        ),
        graph(
            Text("Group log", "Groups waiting for the disk, and requests refused because they could not be logged."),
            [
                Query("sum(thinktwice_grouplog_queue_groups)", "waiting"),
                Query(increase("thinktwice_grouplog_refused_total", WINDOW), "refused in the window"),
            ],
            units.Short,
        ),
        graph(
            Text("Logged samples", "A second, by whether they can train a policy, or why not."),
            [Query(rate("thinktwice_grouplog_samples_total", "training") + " > 0", "{{training}}")],
            units.Short,
        ),
        graph(
            Text("vLLM: requests", "Samples that vLLM is generating, and those that wait for it."),
            [
                Query("sum(vllm:num_requests_running)", "running"),
                Query("sum(vllm:num_requests_waiting)", "waiting"),
            ],
            units.Short,
        ),
        graph(
            Text("vLLM: memory", "Share of the KV cache in use, and of prompt tokens found in the prefix cache."),
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
    ]


if __name__ == "__main__":
    print(overview(), end="")
