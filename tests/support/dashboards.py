"""The committed Grafana dashboards: their queries, with Grafana's variables filled in, and what those select."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import promql_parser as promql

FOLDER = Path(__file__).parents[2] / "deploy" / "grafana" / "dashboards"
VARIABLES = dict.fromkeys(("$__rate_interval", "$__range", "$window"), "5m")  # more than a test takes


@dataclass(frozen=True, slots=True)
class PanelQuery:
    """One query of a panel. `instant` queries show one value, the others a range of time."""

    panel: str
    expr: str
    legend: str
    instant: bool

    @property
    def labels(self) -> set[str]:
        """The labels that its legend names."""
        return set(re.findall(r"{{(\w+)}}", self.legend))


@dataclass(frozen=True, slots=True)
class Selector:
    """A metric that a query selects, and the values that its matchers name, by label."""

    metric: str
    values: Mapping[str, tuple[str, ...]]


def dashboards() -> dict[str, dict[str, Any]]:
    """Every dashboard by its file's name."""
    return {path.name: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def queries(variables: Mapping[str, str] = VARIABLES) -> list[PanelQuery]:
    """Every query of every panel, with Grafana's variables substituted."""
    found = []
    for name, board in dashboards().items():
        for panel in board["panels"]:
            for target in panel.get("targets", ()):
                where = f"{name}: {panel['title']}: {target['legendFormat']}"
                found.append(
                    PanelQuery(where, _filled(target["expr"], variables), target["legendFormat"], target["instant"])
                )
    return found


def selectors(expr: str) -> Iterator[Selector]:
    """Everything that an expression selects."""
    for node in _nodes(expr):
        if isinstance(node, promql.VectorSelector):
            assert node.name is not None, expr
            yield Selector(node.name, {each.name: tuple(each.value.split("|")) for each in node.matchers.matchers})


def grouping_labels(expr: str) -> set[str]:
    """The labels that aggregations of an expression keep."""
    aggregations = (node for node in _nodes(expr) if isinstance(node, promql.AggregateExpr))
    return {label for each in aggregations if each.modifier is not None for label in each.modifier.labels}


def _filled(expr: str, variables: Mapping[str, str]) -> str:
    for variable, value in variables.items():
        expr = expr.replace(variable, value)
    assert "$" not in expr, f"a variable that no test fills: {expr}"
    return expr


def _nodes(expr: str) -> list[promql.Expr]:
    found: list[promql.Expr] = []
    promql.walk(promql.parse(expr), found.append)
    return found
