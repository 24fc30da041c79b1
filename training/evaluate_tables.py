"""An evaluation as tables for people. Every number stands beside its interval."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from router.stats import Estimate, Rate
from training.comparison import ArmSummary, Comparison
from training.evaluate import Arm

_PIPE_WIDTH = 160  # columns of a table that no terminal shows


def show(comparison: Comparison, at_k: Mapping[Arm, ArmSummary] | None) -> None:
    """Print the comparison on stdout, and what came of more samples where they were asked for."""
    console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False)
    more = [_arms(at_k, "Policies with --solve-at samples")] if at_k else []
    for table in (_arms(comparison.arms, "Policies"), _test(comparison), _guards(comparison), *more):
        console.print(table)
    console.print("Intervals are 95 %, those of the guards 90 % (each bound 95 %).")
    console.print(Text(f"verdict: {comparison.decision.verdict}: {comparison.decision.why}"))


def _arms(summaries: Mapping[Arm, ArmSummary], title: str) -> Table:
    table = Table("", *(f"{arm} {summaries[arm].policy}" for arm in Arm), title=title, title_justify="left")
    arms = [summaries[arm] for arm in Arm]
    table.add_row("solved %", *(_number(each.solved, ".1f", 100) for each in arms))
    table.add_row("tokens / answer", *(_number(each.tokens_per_answer, ".1f") for each in arms))
    table.add_row("seconds / answer", *(_number(each.seconds_per_answer, ".2f") for each in arms))
    table.add_row("tokens / solved", *(_number(each.tokens_per_solved, ".0f") for each in arms))
    table.add_row("cost / solved $", *(_number(each.cost_per_solved_usd) for each in arms))
    table.add_row("truncated %", *(_number(each.truncated, ".1f", 100) for each in arms))
    found = [", ".join(f"{count} x {name}" for name, count in sorted(each.errors.items())) for each in arms]
    table.add_row("errors", *(each or "none" for each in found))
    return table


def _test(comparison: Comparison) -> Table:
    evidence = comparison.evidence
    mde = "none" if evidence.mde is None else f"{100 * evidence.mde:.1f} points"
    table = Table("", "", title="Paired test", title_justify="left", show_header=False)
    table.add_row("pairs", f"{evidence.pairs} of {evidence.asked} questions")
    table.add_row("only candidate (n01)", str(evidence.n01))
    table.add_row("only champion (n10)", str(evidence.n10))
    table.add_row("both, neither", f"{comparison.both}, {comparison.neither}")
    table.add_row("difference, points", _number(comparison.difference, "+.1f", 100))
    table.add_row("p, one-sided exact", f"{evidence.p_value:.4g} (alpha {evidence.alpha:g})")
    table.add_row("minimum detectable effect", mde)
    table.add_row("e-value", f"{comparison.e_value:.3g} (1/alpha = {1 / evidence.alpha:.3g})")
    return table


def _guards(comparison: Comparison) -> Table:
    table = Table("guard", "candidate to champion", "margin", "", title="Guards", title_justify="left")
    for guard in comparison.evidence.guards:
        found = "holds" if guard.holds else "not shown"
        table.add_row(guard.name, _number(guard.estimate, ".3f"), f"{guard.margin:g}", found)
    return table


def _number(estimate: Estimate | Rate, form: str = ".3g", scale: float = 1.0) -> str:
    if estimate.value is None:
        return "-"
    low, high = ("?" if bound is None else format(bound * scale, form) for bound in (estimate.low, estimate.high))
    return f"{estimate.value * scale:{form}} [{low}, {high}]"
