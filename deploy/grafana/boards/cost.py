"""Cost: what everything costs, what stands idle, and what the router saves against always-1 and always-5."""

from __future__ import annotations

from grafana_foundation_sdk.models import units

from deploy.grafana.board import Board, Row
from deploy.grafana.boards.overview import ORDINARY_ONLY
from deploy.grafana.panels import Panel, Query, Text, graph, tally
from deploy.grafana.promql import (
    ORDINARY,
    WINDOW,
    all_in_per_solved,
    arm_per_solved,
    cost_per_solved,
    idle,
    increase,
    rate,
    saved,
    solved,
)


def cost() -> Board:
    """The dashboard."""
    return Board(
        "cost",
        "cost",
        "What everything costs, what stands idle, and what the router saves.",
        [
            Row("Where the dollars go", _spending()),
            Row("Against always-1 and always-5: the unbiased share", _savings()),
            Row("Tokens", _tokens()),
        ],
    )


def _spending() -> list[Panel]:
    return [
        graph(
            Text(
                "Spending by component",
                "Dollars in the window. `full_groups` are drawn by the audit lottery; `verification` and `audit` are "
                "the time of checks and of second verifiers. What has no price is missing.",
            ),
            [
                Query(increase("thinktwice_spending_usd_total", WINDOW, by="component"), "{{component}}"),
                Query(f"max(increase(thinktwice_training_cost_usd_total[{WINDOW}]))", "training"),
            ],
            units.Dollars,
        ),
        graph(
            Text(
                "Idle",
                "What the engines' machines cost in the window beyond the tokens' prices: price-list dollars and "
                "amortised ones never share a panel elsewhere.",
            ),
            [Query(idle(WINDOW), "idle")],
            units.Dollars,
        ),
        graph(
            Text("Cost per solved", f"By the tokens' prices, and with everything. {ORDINARY_ONLY}"),
            [
                Query(cost_per_solved(WINDOW), "tokens"),
                Query(all_in_per_solved(WINDOW), "all in"),
            ],
            units.Dollars,
        ),
        graph(
            Text("Spending by purpose", "Dollars in the window, by what the traffic is for: `eval` is our own."),
            [Query(increase("thinktwice_cost_usd_total", WINDOW, by="purpose"), "{{purpose}}")],
            units.Dollars,
        ),
        graph(
            Text("Spending by route", f"Dollars in the window. {ORDINARY_ONLY}"),
            [Query(increase("thinktwice_cost_usd_total", WINDOW, ORDINARY, "route"), "{{route}}")],
            units.Dollars,
        ),
        tally(
            Text("Without a price", "Answers in the window of a model that `[prices]` does not name."),
            "thinktwice_unpriced_answers_total",
            "answers",
        ),
    ]


def _savings() -> list[Panel]:
    arms = ("adaptive", "always_1", "always_5")
    return [
        graph(
            Text(
                "Solve rate by arm",
                "Of the requests of the audit lottery: what the router solved of those left to it, and what one and "
                "five samples solve of the others. Disjoint random samples of one traffic.",
            ),
            [Query(f"{_arm('solved')} / ({_arm('requests')} > 0)", "{{arm}}")],
            units.PercentUnit,
        ),
        graph(
            Text("Cost per solved by arm", "Dollars of those requests for each solved one."),
            [Query(arm_per_solved("cost_usd", WINDOW, arm), arm) for arm in arms],
            units.Dollars,
        ),
        graph(
            Text("Saved", "1 - adaptive / baseline, of cost per solved; below 0 the baseline is cheaper."),
            [Query(saved(WINDOW, arm), f"against {arm}") for arm in arms[1:]],
            units.PercentUnit,
            from_zero=False,
        ),
    ]


def _arm(what: str) -> str:
    return increase(f"thinktwice_shadow_{what}_total", WINDOW, by="arm")


def _tokens() -> list[Panel]:
    spent = increase("thinktwice_tokens_total", WINDOW, ORDINARY)
    return [
        graph(
            Text("Tokens", f"Of all samples, a second; `input` is without `cached_input`. {ORDINARY_ONLY}"),
            [Query(rate("thinktwice_tokens_total", "type", ORDINARY), "{{type}}")],
            units.Short,
        ),
        graph(
            Text("Tokens per solved", f"Free of prices. {ORDINARY_ONLY}"),
            [Query(f"{spent} / ({solved(WINDOW).successes} > 0)", "tokens per verified answer")],
            units.Short,
        ),
        graph(
            Text("Tokens by model", f"A second. {ORDINARY_ONLY}"),
            [Query(rate("thinktwice_tokens_total", "model", ORDINARY), "{{model}}")],
            units.Short,
        ),
    ]
