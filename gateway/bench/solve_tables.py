"""What `bench solve` shows."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.bench.report import Table, error_counts, number
from gateway.bench.summary import Difference, PolicySummary
from router.enums import Status


def tables(policies: Sequence[PolicySummary], differences: Sequence[Difference]) -> list[Table]:
    """Policies, their answers by status, and their differences where there are any."""
    shown = [_policy_table(policies), _status_table(policies)]
    return [*shown, _difference_table(differences)] if differences else shown


def _policy_table(policies: Sequence[PolicySummary]) -> Table:
    columns = ["policy", "n", "solve rate %", "tokens/request", "tokens/solved", "cost/solved $"]
    columns += ["samples", "wall p50 s", "wall total s"]
    rows = [
        [
            each.policy,
            str(each.n),
            number(each.solve_rate, ".1f", 100),
            number(each.tokens_per_request, ".0f"),
            number(each.tokens_per_solved, ".0f"),
            number(each.cost_per_solved_usd),
            number(each.samples_mean, ".2f"),
            number(each.wall_s_p50, ".2f"),
            f"{each.wall_s_total:.1f}",
        ]
        for each in policies
    ]
    return Table("Policies", columns, rows)


def _status_table(policies: Sequence[PolicySummary]) -> Table:
    rows = []
    for each in policies:
        counts = [f"{rate.successes} ({number(rate, '.0f', 100)} %)" for rate in each.statuses.values()]
        rows.append([each.policy, *counts, error_counts(each.errors)])
    return Table("Answers by status", ["policy", *Status, "errors"], rows)


def _difference_table(differences: Sequence[Difference]) -> Table:
    rows = [
        [
            f"{each.policy} - {each.baseline}",
            str(each.solve_rate.n),
            number(each.solve_rate, "+.1f", 100),
            number(each.tokens_per_request, "+.0f"),
            number(each.cost_per_request_usd, "+.3g"),
            number(each.wall_s, "+.2f"),
        ]
        for each in differences
    ]
    columns = ["difference", "pairs", "solve rate, points", "tokens/request", "cost/request $", "wall s"]
    return Table("Paired differences", columns, rows)
