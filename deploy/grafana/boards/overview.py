"""The overview: what is solved, for how much, and whether everything is up. The scorecard's figures over time."""

from __future__ import annotations

from grafana_foundation_sdk.models import units

from deploy.grafana.board import Board, Row
from deploy.grafana.panels import Panel, Query, Text, figure, graph, names, state
from deploy.grafana.promql import (
    NOW,
    ORDINARY,
    WINDOW,
    all_in_per_solved,
    cost_per_solved,
    increase,
    rate,
    solved,
)

ORDINARY_ONLY = "Evaluations and replays do not count."
ALL_TRAFFIC = "Counts all traffic, evaluations too: this metric does not tell them apart."


def overview() -> Board:
    """The dashboard."""
    return Board(
        "overview",
        "overview",
        "What is solved, what it costs, and whether everything is up.",
        [
            Row("What is solved, and for how much", _headline(), 6, 5),
            Row("Over time", _over_time()),
            Row("What came of it", _feedback(), 12),
        ],
    )


def _headline() -> list[Panel]:
    judged, verified = solved(NOW), "verified answers"
    return [
        figure(
            Text(
                "Solve rate",
                "Verified answers among those verified or failed, so among those a decisive check judged, with the "
                f"95 % Wilson interval and how many they were. {ORDINARY_ONLY}",
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
                "All dollars spent on ordinary traffic, checked or not, for each verified answer; with checks, audits, "
                "judging and training, as far as `[costs]` prices them, `all in`. Answers of a model "
                f"without a configured price add no dollars: they are counted beside it. {ORDINARY_ONLY}",
            ),
            [
                Query(cost_per_solved(NOW), "cost per verified answer"),
                Query(all_in_per_solved(NOW), "all in"),
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


def _over_time() -> list[Panel]:
    judged = solved(WINDOW)
    return [
        graph(
            Text("Solve rate", f"As above, over the window chosen at the top. {ORDINARY_ONLY}"),
            [
                Query(judged.value, "solve rate"),
                Query(judged.low, "95 % from"),
                Query(judged.high, "95 % to"),
            ],
            units.PercentUnit,
        ),
        graph(
            Text("Cost per solved", f"As above, over the window chosen at the top. {ORDINARY_ONLY}"),
            [
                Query(cost_per_solved(WINDOW), "cost per verified answer"),
                Query(all_in_per_solved(WINDOW), "all in"),
            ],
            units.Dollars,
        ),
        graph(
            Text("Judged answers", "How many answers stand behind the solve rate and the cost per solved."),
            [Query(judged.n, "judged"), Query(judged.successes, "verified")],
            units.Short,
        ),
        graph(
            Text("Answers by route and status", f"What is claimed of the answers, a second. {ORDINARY_ONLY}"),
            [Query(rate("thinktwice_answers_total", "route, status", ORDINARY) + " > 0", "{{route}} {{status}}")],
            units.RequestsPerSecond,
        ),
        graph(
            Text(
                "Requests by route and HTTP status",
                f"`none`: ended before a route was taken. `refused`: withheld by `on_failure`. {ALL_TRAFFIC}",
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
            Text(
                "Refusals and timeouts", "In the window: answers withheld, by reason; checks that timed out or erred."
            ),
            [
                Query(increase("thinktwice_refusals_total", WINDOW, by="reason") + " > 0", "refused: {{reason}}"),
                Query(
                    increase("thinktwice_verifications_total", WINDOW, 'outcome=~"error|timeout"', "outcome"),
                    "check {{outcome}}",
                ),
            ],
            units.Short,
        ),
    ]


def _feedback() -> list[Panel]:
    return [
        graph(
            Text(
                "Feedback and reviews",
                "Taken in the window, by what they say of the answer; minutes saved, time to resolution, throughput "
                "and satisfaction by team are in `GET /v1/scorecard`, whose team names are not labels here.",
            ),
            [
                Query(
                    increase("thinktwice_labels_total", WINDOW, by="source, outcome") + " > 0", "{{source}} {{outcome}}"
                )
            ],
            units.Short,
        ),
        graph(
            Text(
                "Minutes and ratings", "Minutes that feedback says were saved or lost in the window, and mean rating."
            ),
            [
                Query(increase("thinktwice_feedback_minutes_total", WINDOW, by="sign"), "minutes {{sign}}"),
                Query(
                    f"{increase('thinktwice_feedback_rating_sum', WINDOW)}"
                    f" / ({increase('thinktwice_feedback_rating_count', WINDOW)} > 0)",
                    "mean rating",
                ),
            ],
            units.Short,
        ),
    ]
