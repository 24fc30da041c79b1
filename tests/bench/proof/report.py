"""What the arms came to: the test, format and content apart, the table, the curves, and `proof.json`."""

from __future__ import annotations

import json
import platform
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from router.drawing import Axis, Plot
from router.stats import Rate, paired_difference, wilson
from router.webpage import figure, table, write_webpage
from tests.bench.proof.arm import AFTER, BASE, BEFORE, Arm
from tests.bench.proof.asking import read_answers
from tests.bench.proof.plan import Plan
from tests.bench.screenshot import screenshot
from training.gate import mcnemar_p

_COLUMNS = (
    "arm", "n", "solved before %", "solved after %", "gain, points", "n01", "n10", "p, one-sided", "of it format",
    "of it content", "loss tokens", "minutes",
)  # fmt: skip
_AGAINST = ("after training", "only it", "only the other", "difference, points", "p, one-sided")


def compared(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The paired comparison of two answers to each question.

    The gain in solve rate is split exactly: with form rate F and solve rate C among answers in form, before (0) and
    after (1), (F1 - F0) C0 is format and F1 (C1 - C0) is content.
    """
    first, then = ({each["line"]: each for each in answers} for answers in (before, after))
    lines = sorted(first.keys() & then.keys())
    pairs = [(then[line]["solved"], first[line]["solved"]) for line in lines]
    outcomes, n = Counter(pairs), len(lines)
    form = [sum(each[line]["form"] for line in lines) / n for each in (first, then)]
    solved = [sum(each[line]["solved"] for line in lines) / n for each in (first, then)]
    given = [rate / share if share else 0.0 for rate, share in zip(solved, form, strict=True)]
    n01, n10 = outcomes[True, False], outcomes[False, True]
    return {
        "n": n,
        "solved_before": sum(was for _, was in pairs),
        "solved_after": sum(now for now, _ in pairs),
        "n01": n01,
        "n10": n10,
        "p": mcnemar_p(n01, n10),
        "gain": asdict(paired_difference(pairs)),
        "form_before": form[0],
        "form_after": form[1],
        "solved_given_form_before": given[0],
        "solved_given_form_after": given[1],
        "format_gain": (form[1] - form[0]) * given[0],
        "content_gain": form[1] * (given[1] - given[0]),
    }


def write(plan: Plan, arms: Sequence[Arm], command: str, out: Path) -> str:
    """Write `proof.json`, `README.md`, `curves.html` and, with a browser at hand, `curves.png`.

    Returns the table. Raises `OSError`.
    """
    out.mkdir(parents=True, exist_ok=True)
    before = read_answers(next(arm for arm in arms if arm.name == BASE).folder / BEFORE)
    answers = {arm.name: read_answers(arm.folder / AFTER) for arm in arms}
    results = {arm: compared(before, found) for arm, found in answers.items()}
    steps = {arm.name: arm.steps() for arm in arms if arm.part}
    for arm in arms:
        results[arm.name] |= {
            "policies": [policy.name for policy in arm.policies()],
            "loss_tokens": sum(step["tokens"] for step in steps.get(arm.name, ())),
            "seconds": arm.seconds(),
        }
    name = plan.arms[0].name
    tested = results[name]
    against = {other: compared(found, answers[name]) for other, found in answers.items() if other != name}
    proof = {
        "plan": msgspec.to_builtins(plan),
        "seeds": {"questions, sampling, training": plan.seed},
        "commands": [command, *(f"thinktwice {words}" for words in _commands(plan))],
        "machine": {"platform": platform.platform(), "python": platform.python_version()},
        "tested": name,
        "significant": tested["p"] <= plan.alpha,
        "arms": results,
        "against": against,
        "steps": steps,
    }
    (out / "proof.json").write_text(json.dumps(proof, indent=1) + "\n")
    rows = [_row(arm, found) for arm, found in results.items()]
    said = "significant" if proof["significant"] else "not significant"
    verdict = f"{name}: {said} at the committed level {plan.alpha:g}, p = {tested['p']:.3g}."
    versus = [_versus(name, other, found) for other, found in against.items()]
    shown = f"{_markdown(_COLUMNS, rows)}\n\n{_markdown(_AGAINST, versus)}"
    made = (
        f"Made by `{command}` in {sum(map(_minutes, results.values())):.0f} minutes; all numbers are in `proof.json`. "
        f"What the arms share (the first cycle's traffic, the answers before) was done once and counts for `{BASE}`."
    )
    text = f"# Proof that the loop learns\n\n{verdict}\n\n{shown}\n\n{made}\n"
    (out / "README.md").write_text(text)
    _draw(out, steps, [f"<p><strong>{verdict}</strong></p>", table(_COLUMNS, rows), table(_AGAINST, versus)])
    return f"{shown}\n{verdict}"


def _commands(plan: Plan) -> list[str]:
    arms = [f"train --mode {arm.mode} --epochs {arm.epochs} --seed {plan.seed}" for arm in plan.arms]
    return ["serve", "engine", *arms, "promote POLICY"]


def _row(name: str, found: Mapping[str, Any]) -> tuple[str, ...]:
    rates = [wilson(found[key], found["n"]) for key in ("solved_before", "solved_after")]
    solved = map(_percent, rates)
    parts = (f"{100 * found[key]:+.1f}" for key in ("format_gain", "content_gain"))
    return (
        name, str(found["n"]), *solved, _points(found["gain"]), str(found["n01"]), str(found["n10"]),
        f"{found['p']:.3g}", *parts, str(found["loss_tokens"]), f"{_minutes(found):.0f}",
    )  # fmt: skip


def _minutes(found: Mapping[str, Any]) -> float:
    seconds: Mapping[str, float] = found["seconds"]
    return sum(seconds.values()) / 60


def _versus(tested: str, other: str, found: Mapping[str, Any]) -> tuple[str, ...]:
    counts = (str(found["n01"]), str(found["n10"]))
    return (f"{tested} against {other}", *counts, _points(found["gain"]), f"{found['p']:.3g}")


def _points(gain: Mapping[str, float]) -> str:
    return f"{100 * gain['value']:+.1f} [{100 * gain['low']:+.1f}, {100 * gain['high']:+.1f}]"


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(each) + " |" for each in (columns, ("---",) * len(columns), *rows))


def _percent(rate: Rate) -> str:
    return f"{100 * (rate.value or 0):.1f} [{100 * (rate.low or 0):.1f}, {100 * (rate.high or 0):.1f}]"


def _draw(out: Path, steps: Mapping[str, Sequence[Mapping[str, Any]]], head: Sequence[str]) -> None:
    """The page of curves, and its picture."""
    drawings = [
        (
            _plot(steps, "reward", "mean reward"),
            "Mean reward of each step's completions; one cycle follows the other.",
        ),
        (_plot(steps, "kl", "nats a token"), "KL from the policy that was logged. Mode rft has none to measure."),
        (_plot(steps, "loss", "loss"), "Loss before each step's update."),
    ]
    write_webpage(out / "curves.html", "thinktwice: proof", [*head, *(figure(svg, said) for svg, said in drawings)])
    try:
        screenshot(out / "curves.html", out / "curves.png", width=1300, height=1500)
    except subprocess.CalledProcessError as error:
        print(f"curves.png is not made: {error.stderr.strip()}")


def _plot(steps: Mapping[str, Sequence[Mapping[str, Any]]], key: str, unit: str) -> str:
    lines = {
        arm: [(float(at), float(step[key])) for at, step in enumerate(found, start=1) if step[key] is not None]
        for arm, found in steps.items()
    }
    values = [value for line in lines.values() for _, value in line] or [0.0]
    low, high = min(0.0, *values), max(values)
    longest = max((len(found) for found in steps.values()), default=0)
    plot = Plot(Axis("step", 1, max(longest, 2)), Axis(unit, low, high if high > low else low + 1.0))
    for arm, line in lines.items():  # one without values too: an arm keeps its colour
        plot.line(line, arm)
    return plot.svg()
