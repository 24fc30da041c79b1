"""A training run as one web page: what it was made of, how the steps went, and what the gate said and why."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from router.drawing import Axis, Plot
from router.errors import TrainingError
from router.webpage import figure, table, write_webpage

PAGE, REPORT = "report.html", "report.json"
_CURVES = (
    (("reward",), "mean reward", "What the completions of each step had earned, without any shaping."),
    (("kl",), "nats a token", "KL from the policy that was logged: how far the run has moved."),
    (
        ("ratio", "ess", "clip_fraction"),
        "share",
        "Mean ratio of the policy's probability of a token to the logged one; "
        "effective sample size of these weights, far below 1 with stale data; share of tokens with a clipped gradient.",
    ),
    (
        ("loss", "grad_norm", "entropy"),
        "value",
        "Loss before each step's update, the norm of its gradient before "
        "clipping, and the policy's entropy in nats a token.",
    ),
    (("length",), "tokens", "Mean length of the completions of each step, in tokens of the loss."),
)


def write_page(folder: Path, report: Mapping[str, Any], verdict: Mapping[str, Any] | None = None) -> None:
    """Write the page of a run into its folder; `report` is the run's, `verdict` the evaluation's, as JSON values.

    Raises `ConfigError` when it cannot be written.
    """
    said = f"{verdict['verdict']}: {verdict['why']}" if verdict else "not evaluated yet"
    counts = report["counts"]
    parts = [
        f"<h1>{escape(str(report['policy']))}</h1>",
        f"<p>Goes on from {escape(report['parent'] or report['base_model'])}, trained on {counts['groups_kept']} of "
        f"{counts['groups_read']} groups in {len(report['steps'])} steps, ended: {escape(str(report['ended']))}.</p>",
        f"<p><strong>Gate: {escape(said)}</strong></p>",
        *([] if verdict is None else _verdict(verdict)),
        *_data(report),
        *_taken(report),
        "<h2>Steps</h2>",
        *_curves(report["steps"]),
    ]
    write_webpage(folder / PAGE, f"thinktwice: {report['policy']}", parts)


def read_report(folder: Path) -> dict[str, Any]:
    """What `train` wrote of the run in this folder. Raises `TrainingError` when it cannot be read."""
    path = folder / REPORT
    try:
        report: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise TrainingError(f"cannot read {path}: {error}") from error
    return report


def _data(report: Mapping[str, Any]) -> list[str]:
    counts = report["counts"]
    dropped = [
        (what, reason, str(number))
        for what, found in (("group", counts["dropped_groups"]), ("completion", counts["dropped_rows"]))
        for reason, number in sorted(found.items())
    ]
    sources = [(each["source"], str(each["rows"]), f"{each['kl']:.3g}") for each in report["identity"]]
    shaping = [
        (name, f"{each['weight']:g}", "-" if each["mean"] is None else f"{each['mean']:.3g}", str(each["rows"]))
        for name, each in report["shaping"].items()
    ]
    tables = (
        ("", ("dropped", "because", "number"), dropped),
        (
            "Groups by the measured difficulty of their prompts:",
            ("difficulty", "groups"),
            [(name, str(number)) for name, number in sorted(counts.get("difficulty", {}).items())],
        ),
        (
            "Log-probabilities computed again with the policy that is said to have logged them:",
            ("engine", "completions", "mean KL, nats a token"),
            sources,
        ),
        ("Shaping of the reward, apart from the outcome:", ("term", "weight", "mean", "completions"), shaping),
    )
    return [
        "<h2>Data</h2>",
        f"<p>{counts['groups_kept']} groups with {counts['rows_kept']} completions trained; "
        f"{counts['forgotten']} groups were forgotten before.</p>",
        *(f"<p>{escape(title)}</p>{table(columns, rows)}" for title, columns, rows in tables if rows),
    ]


def _taken(report: Mapping[str, Any]) -> list[str]:
    """What the update took beside what was forecast."""
    forecast, steps = report["forecast"], report["steps"]
    if forecast is None:
        return []
    rows = [
        ("loss tokens", _known(forecast["tokens"]), _known(sum(step["tokens"] for step in steps))),
        ("seconds", _known(forecast["seconds"]), _known(sum(step["seconds"] for step in steps))),
        ("memory at its largest, MB", _known(forecast["memory_mb"]), _known(report["peak_mb"])),
    ]
    return [
        "<h2>Forecast</h2>",
        table(("update", "forecast", "took"), rows),
        f"<p>From {escape(forecast['basis'])}.</p>",
    ]


def _known(value: float | None) -> str:
    return "unknown" if value is None else f"{value:,.4g}"


def _curves(steps: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for names, unit, caption in _CURVES:
        lines = {name: [(step["step"], step[name]) for step in steps if step[name] is not None] for name in names}
        values = [value for line in lines.values() for _, value in line]
        if not values:  # rows without logged log-probabilities have no ratio
            continue
        low, high = min(0.0, *values), max(values)
        plot = Plot(Axis("step", 1, max(len(steps), 2)), Axis(unit, low, high if high > low else low + 1.0))
        for name, line in lines.items():
            plot.line(line, name.replace("_", " "))
        yield figure(plot.svg(), caption)


def _verdict(verdict: Mapping[str, Any]) -> list[str]:
    arms, mde = verdict["arms"], verdict["mde"]
    rows = [("policy", *(arms[arm]["policy"] for arm in arms))]
    for name in ("solved", "tokens_per_answer", "tokens_per_solved", "cost_per_solved_usd", "truncated"):
        rows.append((name.replace("_", " "), *(_interval(arms[arm][name]) for arm in arms)))
    test = [
        ("questions answered by both", f"{verdict['pairs']} of {verdict['questions']}"),
        ("only candidate, only champion", f"{verdict['n01']}, {verdict['n10']}"),
        ("both, neither", f"{verdict['both']}, {verdict['neither']}"),
        ("difference in solve rate", _interval(verdict["difference"])),
        ("p, one-sided exact", f"{verdict['p_value']:.3g} (alpha {verdict['alpha']:g})"),
        ("minimum detectable effect", "none" if mde is None else f"{mde:.3f}"),
    ]
    guards = [
        (each["name"], _interval(each["estimate"]), f"{each['margin']:g}", "holds" if each["holds"] else "not shown")
        for each in verdict["guards"]
    ]
    examples = [
        (heading, table(("question", "candidate", "champion"), [tuple(each.values()) for each in verdict[key]]))
        for heading, key in (("Only the candidate solved", "wins"), ("Only the champion solved", "losses"))
        if verdict[key]
    ]
    return [
        "<h2>Evaluation</h2>",
        table(("", *arms), rows),
        table(("paired test", ""), test),
        table(("guard", "candidate to champion", "margin", ""), guards),
        *(f"<h3>{heading}, the first few</h3>{shown}" for heading, shown in examples),
        "<p>Intervals are 95 %, those of the guards 90 % (each bound 95 %).</p>",
    ]


def _interval(estimate: Mapping[str, Any]) -> str:
    if estimate["value"] is None:
        return "-"
    low, high = ("?" if each is None else f"{each:.4g}" for each in (estimate["low"], estimate["high"]))
    return f"{estimate['value']:.4g} [{low}, {high}]"
