"""Verification and audits: what the checks say, how far they can be trusted, and what second verifiers make of them."""

from __future__ import annotations

from grafana_foundation_sdk.models import units

from deploy.grafana.board import Board, Row
from deploy.grafana.panels import Panel, Query, Text, graph, state, tally
from deploy.grafana.promql import WINDOW, average, increase, quantile, rate

_TRUSTED = 'bound="upper"'


def verification() -> Board:
    """The dashboard."""
    return Board(
        "verification",
        "verification and audits",
        "What the checks say, how far they can be trusted, and what second verifiers make of them.",
        [Row("Checks", _checks()), Row("Trust", _trust()), Row("Escalation", _escalation(), 12)],
    )


def _checks() -> list[Panel]:
    passed = increase("thinktwice_verifications_total", WINDOW, 'outcome="pass"', "verifier")
    decided = increase("thinktwice_verifications_total", WINDOW, 'outcome=~"pass|fail"', "verifier")
    return [
        graph(
            Text("Verifier outcomes", "Checks a second. `error` and `timeout` are ours: neither a pass nor a fail."),
            [Query(rate("thinktwice_verifications_total", "verifier, outcome") + " > 0", "{{verifier}} {{outcome}}")],
            units.OpsPerSecond,
        ),
        graph(
            Text("Pass rate by check", "Passes among passes and fails of the window."),
            [Query(f"{passed} / ({decided} > 0)", "{{verifier}}")],
            units.PercentUnit,
        ),
        graph(
            Text("Time of a check", "Mean and 95th percentile of the window."),
            [
                Query(average("thinktwice_verifier_duration_seconds", "verifier"), "{{verifier}} mean"),
                Query(quantile(0.95, "thinktwice_verifier_duration_seconds", "verifier"), "{{verifier}} p95"),
            ],
            units.Seconds,
        ),
    ]


def _trust() -> list[Panel]:
    return [
        state(
            Text("Parts of verification", "Workers, sandbox and judge."),
            [Query("min by (part) (thinktwice_verifier_up)", "{{part}}")],
        ),
        tally(
            Text("Audits", "Accepted answers that a second verifier read in the window; `disagree`: one to review."),
            "thinktwice_audits_total",
            "{{result}}",
            by="result",
        ),
        graph(
            Text(
                "Wrong when measured",
                "95 % upper bounds on how often a check accepts a wrong answer, rejects a right one.",
            ),
            [
                Query(
                    f"max by (verifier) (thinktwice_verifier_false_accept_ratio{{{_TRUSTED}}})", "{{verifier}} accepts"
                ),
                Query(
                    f"max by (verifier) (thinktwice_verifier_false_reject_ratio{{{_TRUSTED}}})", "{{verifier}} rejects"
                ),
            ],
            units.PercentUnit,
        ),
        graph(
            Text(
                "Judge",
                "Traps that it passed at its last examination (above 0: disabled), and its tokens in the window.",
            ),
            [
                Query("max(thinktwice_judge_traps_passed)", "traps passed"),
                Query(increase("thinktwice_judge_tokens_total", WINDOW, by="type"), "{{type}} tokens"),
            ],
            units.Short,
        ),
        tally(
            Text("Labels", "Feedback and reviews in the window, by what they say of the answer."),
            "thinktwice_labels_total",
            "{{source}} {{outcome}}",
            by="source, outcome",
        ),
        tally(
            Text("Cached answers checked again", "In the window; `disagree`: a required check fails now."),
            "thinktwice_cache_rechecks_total",
            "{{result}}",
            by="result",
        ),
    ]


def _escalation() -> list[Panel]:
    return [
        tally(
            Text(
                "Escalations", "Groups in the window that went on where their own samples failed, and how that ended."
            ),
            "thinktwice_escalations_total",
            "{{to}}: {{status}}",
            by="to, status",
        ),
        tally(
            Text("The larger model", "Samples in the window that it was asked for."),
            "thinktwice_escalated_samples_total",
            "{{result}}",
            by="result",
        ),
    ]
