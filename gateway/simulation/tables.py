"""The tables of `thinktwice simulate`, and its JSON object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import msgspec

from gateway.bench.report import Report, Table, number
from router.simulation.study import Study, View

TITLES: Mapping[str, str] = {
    "checked": "Tasks with a check: the oracle tells which sample is right",
    "vote": "Vote only: the same samples without the check",
}


def report_of(study: Study, context: Mapping[str, Any]) -> Report:
    """Everything that was found, with a note on how it was measured."""
    tables = [table for view in study.views for table in (_policies(view), _comparisons(view), _curves(view))]
    if study.fitted is not None:
        tables.append(_reliability(study))
    results: dict[str, Any] = {
        "prompts": study.prompts,
        "samples": study.samples,
        "unfitted": study.unfitted,
        "views": [asdict(view) | {"histogram": dict(view.histogram)} for view in study.views],
        "calibration": None if study.fitted is None else msgspec.to_builtins(study.fitted.calibration.quality),
        "reliability": [asdict(each) for each in study.bins],
    }
    notes = [
        f"{study.prompts} prompts, {study.samples} samples. Figures are means over the recorded order and random "
        "orders of each prompt's samples, the same for every policy; intervals are 95 %, bootstrap over prompts.",
        "Tokens are completion tokens: the losers of a wave are cut when it stops, as serving cuts them. "
        "A wave is one round of samples drawn side by side.",
        "Learned policies are fitted without the fifth of the prompts they are tried on.",
    ]
    if study.unfitted:
        notes.append(f"Nothing was learnt: {study.unfitted}.")
    return Report("simulate", {**context, "prompts": study.prompts}, results, tables, notes)


def _policies(view: View) -> Table:
    columns = ["policy", "solve rate %", "samples", "waves", "tokens", "tokens/solved", "cost/solved $", "headroom %"]
    rows = [
        [
            each.name,
            number(each.solve_rate, ".1f", 100),
            number(each.samples, ".2f"),
            number(each.waves, ".2f"),
            number(each.completion_tokens, ".1f"),
            number(each.tokens_per_solved, ".0f"),
            "-" if each.cost_per_solved is None else number(each.cost_per_solved),
            number(each.headroom, ".0f", 100),
        ]
        for each in view.policies
    ]
    return Table(TITLES[view.name], columns, rows)


def _comparisons(view: View) -> Table:
    columns = ["policy", "against", "solve rate difference, points", "tokens, ratio", "waves, ratio"]
    rows = [
        [
            each.name,
            each.reference,
            number(each.solve_difference, "+.1f", 100),
            number(each.token_ratio, ".3f"),
            number(each.wave_ratio, ".3f"),
        ]
        for each in view.comparisons
    ]
    return Table("Ours against the references, on the same draws", columns, rows)


def _curves(view: View) -> Table:
    columns = ["router", "mean solve rate below its curve %", "lead of the learned one, points"]
    rows = [
        [each.name, number(each.area, ".1f", 100), "-" if each.lead is None else number(each.lead, "+.1f", 100)]
        for each in view.curves
    ]
    return Table("Cost against solve rate, from one sample to the full plan", columns, rows)


def _reliability(study: Study) -> Table:
    assert study.fitted is not None
    quality = study.fitted.calibration.quality
    low, mean, high = quality.ece_floor
    title = (
        f"Learned difficulty on held-out prompts: calibration error {quality.ece:.3f} (a perfect estimate on this "
        f"bank: {mean:.3f} [{low:.3f}, {high:.3f}]), Brier {quality.brier:.3f} against {quality.base_brier:.3f} of "
        f"the mean, AUC {quality.auc:.2f}"
    )
    rows = [
        [f"{100 * each.predicted:.0f}", number(each.observed, ".0f", 100), str(each.observed.n)] for each in study.bins
    ]
    return Table(title, ["predicted %", "solved %", "samples"], rows)
