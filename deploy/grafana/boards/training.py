"""Training and policies: what the log offers, how cycles ended, what held-out questions say of each policy."""

from __future__ import annotations

from grafana_foundation_sdk.models import units

from deploy.grafana.board import Board, Row
from deploy.grafana.panels import Panel, Query, Text, figure, graph
from deploy.grafana.promql import NOW, newest, rate


def training() -> Board:
    """The dashboard."""
    return Board(
        "training",
        "training and policies",
        "What the log offers, how cycles ended, and what held-out questions say of each policy.",
        [Row("Policies", _policies(), 12), Row("Cycles", _cycles()), Row("What the log offers", _log())],
    )


def _policies() -> list[Panel]:
    by = "policy, suite"
    return [
        graph(
            Text("Held-out solve rate", "When last evaluated, with its 95 % Wilson interval."),
            [
                Query(newest("thinktwice_heldout_solve_rate", by), "{{policy}} on {{suite}}"),
                Query(newest("thinktwice_heldout_solve_rate_ci_low", by), "{{policy}} on {{suite}} from"),
                Query(newest("thinktwice_heldout_solve_rate_ci_high", by), "{{policy}} on {{suite}} to"),
            ],
            units.PercentUnit,
        ),
        graph(
            Text("Stage of the newest policies", "1 for the stage that each is in."),
            [Query(newest("thinktwice_model_stage", "policy, stage") + " > 0", "{{policy}} {{stage}}")],
            units.Short,
        ),
        figure(
            Text("Held-out questions", "How many stand behind each solve rate."),
            [Query(newest("thinktwice_heldout_n", by), "{{policy}} on {{suite}}")],
            units.Short,
        ),
        graph(
            Text("The router's calibration error", "On prompts it was not fitted on: 0 is a perfect estimate."),
            [Query("max(thinktwice_route_calibration_error)", "calibration error")],
            units.PercentUnit,
        ),
    ]


def _cycles() -> list[Panel]:
    return [
        graph(
            Text("Cycles by how they ended", "Since the ledger began."),
            [Query(newest("thinktwice_training_runs_total", "result"), "{{result}}")],
            units.Short,
        ),
        figure(
            Text(
                "Last cycle",
                "How long ago one reached a verdict, or looked for groups; the newest's training time.",
            ),
            [
                Query("time() - max(thinktwice_training_last_success_timestamp_seconds)", "since a verdict"),
                Query("time() - max(thinktwice_training_last_look_timestamp_seconds)", "since a look"),
                Query("max(thinktwice_training_duration_seconds)", "training time"),
            ],
            units.Seconds,
        ),
        figure(
            Text("Training cost", "Dollars in the dashboard's range; needs `[costs] trainer_usd_per_hour`."),
            [Query(f"max(increase(thinktwice_training_cost_usd_total[{NOW}]))", "training")],
            units.Dollars,
        ),
    ]


def _log() -> list[Panel]:
    return [
        graph(
            Text("Logged samples", "A second, by whether they can train a policy, or why not."),
            [Query(rate("thinktwice_grouplog_samples_total", "training") + " > 0", "{{training}}")],
            units.Short,
        ),
        graph(
            Text("Groups that wait", "Trainable and unread, when a cycle last looked."),
            [Query(newest("thinktwice_grouplog_lag_records", "consumer"), "{{consumer}}")],
            units.Short,
        ),
        graph(
            Text("Lag", "Age of the newest group that a cycle has read."),
            [Query(newest("thinktwice_grouplog_lag_seconds", "consumer"), "{{consumer}}")],
            units.Seconds,
        ),
    ]
