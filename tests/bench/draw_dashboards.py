"""Draws every dashboard from what a real Prometheus answers its queries: `python -m tests.bench.draw_dashboards DIR`.

There is no Grafana here: the panels lie where the committed JSON puts them, in drawings of our own.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from router.drawing import Axis, Plot
from router.webpage import write_webpage
from tests.bench.screenshot import screenshot
from tests.support.dashboard_stack import Stack, running_stack
from tests.support.dashboards import PanelQuery, dashboards, queries
from tests.support.prometheus_server import Series

RANGE_S, ROUNDS, PAUSE_S = 75.0, 15, 3.0
VARIABLES = {"$__rate_interval": "10s", "$__range": "75s", "$window": "30s"}  # for a run of seconds, not hours
_CELL, _LINE, _WIDTH = 70, 34, 24  # pixels of a grid's column and line; columns
_MOST_LINES = 8
_STYLE = """<style>body{max-width:none;width:1700px;margin:1rem}h2{font-size:15px;margin:0 0 2px}
.board{position:relative}
.panel{position:absolute;box-sizing:border-box;border:1px solid #ddd;padding:6px;overflow:hidden}
.panel svg{width:100%;height:calc(100% - 24px)}.panel svg text{font-size:18px}
.row{position:absolute;font-weight:bold;color:#555}
td,th{font-size:13px;padding:2px 8px}</style>"""


def main() -> None:
    """Run a stack under traffic, ask, draw, and have a browser print each page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home, running_stack(Path(home)) as stack:
        for number in range(ROUNDS):
            stack.round(number)
            time.sleep(PAUSE_S)
        for name, board in dashboards().items():
            page = Path(home) / f"{name}.html"
            write_webpage(page, board["title"], [_STYLE, _page(name, board, stack)])
            image = args.folder / name.replace(".json", ".png")
            screenshot(page, image, width=1740, height=_height(board))
            print(image)


def _height(board: dict[str, Any]) -> int:
    return 130 + _LINE * max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])


def _page(name: str, board: dict[str, Any], stack: Stack) -> str:
    asked = {query.panel: query for query in queries(VARIABLES) if query.panel.startswith(f"{name}: ")}
    parts = [f"<h1>{escape(board['title'])}</h1>", '<div class="board">']
    for panel in board["panels"]:
        at = panel["gridPos"]
        place = f'style="left:{_CELL * at["x"]}px;top:{_LINE * at["y"]}px;width:{_CELL * at["w"] - 8}px'
        if panel["type"] == "row":
            parts.append(f'<div class="row" {place}">{escape(panel["title"])}</div>')
            continue
        targets = [asked[f"{name}: {panel['title']}: {each['legendFormat']}"] for each in panel["targets"]]
        drawn = _values(targets, stack) if panel["type"] == "stat" else _lines(targets, stack)
        box = f'<div class="panel" {place};height:{_LINE * at["h"] - 8}px">'
        parts.append(f"{box}<h2>{escape(panel['title'])}</h2>{drawn}</div>")
    return "".join([*parts, "</div>"])


def _values(targets: Sequence[PanelQuery], stack: Stack) -> str:
    rows = [
        f"<tr><td>{escape(_named(query, series))}</td><td><b>{series.values[-1]:.4g}</b></td></tr>"
        for query in targets
        for series in stack.prometheus.instant(query.expr)
    ]
    return f"<table>{''.join(rows)}</table>"


def _lines(targets: Sequence[PanelQuery], stack: Stack) -> str:
    found = [
        (_named(query, series), [*zip(series.times, series.values, strict=True)])
        for query in targets
        for series in stack.prometheus.over(query.expr, RANGE_S)
        if series.finite
    ]
    shown = sorted(found, key=lambda each: -max(value for _, value in each[1]))[:_MOST_LINES]
    values = [value for _, points in shown for _, value in points]
    now = max(at for _, points in shown for at, _ in points)
    low, high = min([0.0, *values]), max([0.0, *values])
    plot = Plot(Axis("seconds before the end", -RANGE_S, 0.0), Axis("", low, high or 1.0))
    for legend, points in shown:
        plot.line([(at - now, value) for at, value in points], legend)
    more = len(found) - len(shown)
    return plot.svg() + (f"<small>and {more} more</small>" if more else "")


def _named(query: PanelQuery, series: Series) -> str:
    name = query.legend
    for label, value in series.labels.items():
        name = name.replace(f"{{{{{label}}}}}", value)
    return name


if __name__ == "__main__":
    main()
