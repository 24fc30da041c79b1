"""A dashboard of rows of panels, as JSON in Grafana's classic schema.

A server provisions that one from a file, and newer ones migrate it when they read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DashboardLinkType, VariableOption

from deploy.grafana.panels import Panel

TAG = "thinktwice"
_WINDOWS = ("5m", "15m", "1h", "6h", "1d")


@dataclass(frozen=True, slots=True)
class Row:
    """Panels of one size, in the units of Grafana's grid: 24 to the full width."""

    title: str
    panels: Sequence[Panel]
    width: int = 8
    height: int = 8


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard; `name` is its file's, and its uid's."""

    name: str
    title: str
    description: str
    rows: Sequence[Row]

    def json(self) -> str:
        """The dashboard as JSON; the same board gives the same text."""
        board = (
            dashboard.Dashboard(f"thinktwice {self.title}")
            .uid(f"thinktwice-{self.name}")
            .description(self.description)
            .tags([TAG])
            .time("now-6h", "now")
            .refresh("30s")
            .timezone("browser")
            .tooltip(DashboardCursorSync.CROSSHAIR)
            .link(dashboard.DashboardLink("thinktwice").type(DashboardLinkType.DASHBOARDS).tags([TAG]).keep_time(True))
            .with_variable(_window())
        )
        number = 0
        for row in self.rows:
            number += 1
            board.with_row(dashboard.Row(row.title).id(number))
            for panel in row.panels:
                number += 1
                board.with_panel(panel.id(number).span(row.width).height(row.height))
        return JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n"


def _window() -> dashboard.CustomVariable:
    """How far back the ratios and quantiles look: short shows changes, long has counts enough to mean something."""
    options = [VariableOption(text=each, value=each, selected=each == "1h") for each in _WINDOWS]
    variable = dashboard.CustomVariable("window").label("Ratios over the last").values(",".join(_WINDOWS))
    return variable.options(options).current(VariableOption(text="1h", value="1h", selected=True))
