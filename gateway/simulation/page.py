"""A result as one web page that needs nothing else: drawings, tables, and what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from gateway.bench.report import Table
from gateway.simulation.tables import TITLES, report_of
from router.drawing import Axis, Plot
from router.simulation.study import PLAN, Study, View
from router.webpage import figure, table, write_webpage


def write_page(study: Study, context: Mapping[str, Any], path: Path) -> None:
    """Write the page. Raises `ConfigError` when that cannot be done."""
    report = report_of(study, context)
    parts = [
        "<h1>What other policies would have made of these groups</h1>",
        f"<p>{escape(str(context['source']))}: {study.prompts} prompts with {study.samples} recorded samples of "
        f"{escape(str(context['policy']))}. Every policy draws from the same samples, so the differences between them "
        "are their own.</p>",
    ]
    for view in study.views:
        parts += [f"<h2>{escape(TITLES[view.name])}</h2>", _cost(view), _samples(view)]
    if study.fitted is not None:
        parts += ["<h2>Learned difficulty</h2>", _reliability(study)]
    parts += ["<h2>Figures</h2>", *map(_table, report.tables), *(f"<p>{escape(note)}</p>" for note in report.notes)]
    parts += [f"<p><code>{escape(str(context['command']))}</code>, {escape(str(context['date']))}</p>"]
    write_webpage(path, "thinktwice simulate", parts)


def _cost(view: View) -> str:
    dearest = max(each.completion_tokens.high or 0.0 for each in view.policies)
    heights = [bound for each in view.policies for bound in (each.solve_rate.low or 0.0, each.solve_rate.high or 1.0)]
    plot = Plot(Axis("completion tokens a prompt", 0.0, dearest * 1.05), Axis("solved", min(heights), max(heights)))
    for curve in view.curves:
        plot.line(
            [(x.value or 0.0, y.value or 0.0) for x, y in zip(curve.tokens, curve.solve_rates, strict=True)], curve.name
        )
    for each in view.policies:
        plot.point(each.completion_tokens, each.solve_rate, each.name, strong=each.name.startswith(PLAN))
    return figure(
        plot.svg(),
        "Up and to the left is better: more solved for fewer tokens. Dots are policies with their 95 % intervals; ours "
        "are large. Lines are routers, from giving every prompt one sample to giving all of them the full plan.",
    )


def _samples(view: View) -> str:
    plot = Plot(Axis("samples drawn", 0.5, 5.5), Axis("share of groups", 0.0, 1.0))
    plot.bars(view.histogram)
    return figure(plot.svg(), "How many samples a group drew.")


def _reliability(study: Study) -> str:
    plot = Plot(Axis("predicted chance that one sample solves", 0.0, 1.0), Axis("solved", 0.0, 1.0))
    plot.line([(0.0, 0.0), (1.0, 1.0)], "perfect")
    for each in study.bins:
        plot.spot(each.predicted, each.observed)
    return figure(
        plot.svg(),
        "Predictions of prompts that the estimate was not fitted on, in tenths; bars are 95 % intervals that take "
        "samples for independent. Dots on the line mean that the estimate can be taken at its word.",
    )


def _table(each: Table) -> str:
    return f"<h3>{escape(each.title)}</h3>{table(each.columns, each.rows)}"
