"""`thinktwice train`: turn the group log into a new policy. Nothing heavy is imported before it runs."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from router.errors import ConfigError, ThinkTwiceError, TrainingError
from training.crew import Crew
from training.sole import sole_trainer

if TYPE_CHECKING:
    from router.settings import Settings
    from training.distill import Distilled
    from training.report import Report
    from training.update import StepMetrics

    Subparsers: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]

_DISTILL = "distill"
_EXITS = """exit codes: 0 a policy was registered, or there was nothing to train on (with --if-due: the cycle ended,
whatever the verdict, or none is due; with --top-up: what the budget allowed was drawn); 1 it failed, serving is as it
was; 2 usage; 75 another trainer is at work"""


def register(subparsers: Subparsers) -> None:
    """Add the command `train`."""
    summary = "train a new policy on the logged groups"
    parser = subparsers.add_parser(
        "train",
        help=summary,
        description=f"{summary.capitalize()}. It is registered, not promoted: serving stays as it is. With --if-due it "
        "is judged as well, and promoted if it is better.",
        epilog=_EXITS,
    )
    parser.add_argument("plan", nargs="?", choices=("plan",), help="only say what a cycle would take; changes nothing")
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration (default: ./thinktwice.toml)")
    parser.add_argument("--model", type=Path, help="folder of the base model (default: the only one in the state's)")
    parser.add_argument("--log-dir", type=Path, help="directory of the group log (default: the configuration's)")
    parser.add_argument("--state-dir", type=Path, help="directory of the policies (default: the configuration's)")
    parser.add_argument(
        "--mode",
        choices=("grpo", "rft", "distill"),
        help="learn from all completions (default), or from verified ones, or teach those to --student",
    )
    parser.add_argument("--student", type=Path, help="with --mode distill: folder of the model to teach")
    parser.add_argument("--out", type=Path, help="with --mode distill: new folder for the model that was taught")
    parser.add_argument(
        "--max-groups", type=int, metavar="N", help="train on at most the N newest groups (default: 4000)"
    )
    parser.add_argument("--learning-rate", "--lr", type=float, help="learning rate (default: 5e-5)")
    parser.add_argument("--rank", type=int, help="rank of the LoRA adapter (default: 16)")
    parser.add_argument("--epochs", type=int, help="passes over the data, 1 or 2 (default: 1)")
    parser.add_argument("--seed", type=int, help="seed of the run (default: 0)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--if-due", action="store_true", help="a whole cycle if enough groups are new: train, evaluate, promote or hold"
    )
    what.add_argument(
        "--top-up",
        action="store_true",
        help="train nothing: let the champion answer logged prompts again, in full groups",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train once, or when it is due, and say what came of it. Raises `ThinkTwiceError`."""
    # Before anything of Hugging Face is imported: it reads these once. Models come from this disk alone.
    os.environ["HF_HUB_OFFLINE"] = os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from router.settings import load_settings  # noqa: PLC0415  # quick `--help`

    settings = load_settings(args.config, _overrides(args))
    log_dir, state_dir = settings.log.dir, settings.state.dir
    if not log_dir.is_dir():
        raise ConfigError(f"there is no group log in {log_dir}: give its directory with --log-dir or [log] dir")
    if args.plan:
        return _plan(settings, args.json)
    crew = Crew()
    _check_together(args, crew)
    model = args.student or settings.training.model or _only_model(state_dir)

    try:
        if crew.follows:
            from training.run import follow  # noqa: PLC0415

            follow(model, settings.training, crew)
            return 0
        with crew.leading(), sole_trainer(state_dir) as sole:
            if not sole:
                print(f"thinktwice: another `thinktwice train` works on {state_dir}: let it end", file=sys.stderr)
                return os.EX_TEMPFAIL
            told = _run(args, settings, model, crew)
    except OSError as error:
        raise TrainingError(
            f"cannot train: {error}: nothing was registered; run this again once it is cured"
        ) from error
    print(told)
    return 0


def _plan(settings: Settings, as_json: bool) -> int:
    """Say what a cycle would take. Raises as `training.plan_command.plan`."""
    from training.place import Place  # noqa: PLC0415  # torch takes seconds
    from training.plan_command import plan  # noqa: PLC0415

    model = settings.training.model or _only_model(settings.state.dir)
    place = Place(settings.log.dir, settings.state.dir, model, settings.backend.model, settings.heldout.share)
    plan(place, settings.training, as_json)
    return 0


def _run(args: argparse.Namespace, settings: Settings, model: Path, crew: Crew) -> str:
    """What came of it, as text or JSON."""
    if args.mode == _DISTILL:
        from training.distill import distill  # noqa: PLC0415
        from training.export import text_accepts  # noqa: PLC0415
        from training.overlap import evaluation_prompts  # noqa: PLC0415

        accepts = text_accepts(settings.heldout.share, evaluation_prompts(settings.training))
        taught = distill(settings.log.dir, accepts, args.student, args.out, settings.training)
        for problem in taught.counts.problems:
            print(problem, file=sys.stderr)
        return json.dumps(taught.as_dict()) if args.json else _as_text_taught(taught)
    from training.place import Place  # noqa: PLC0415  # torch takes seconds, and on a full disk fails

    place = Place(settings.log.dir, settings.state.dir, model, settings.backend.model, settings.heldout.share)
    if args.top_up:
        from training.top_up_command import top_up  # noqa: PLC0415

        return top_up(place, settings.training, args.json)
    if args.if_due:
        from training.cycle_command import run_if_due  # noqa: PLC0415

        told = run_if_due(place, settings.training, crew, args.json)
        _recalibrate(settings)
        return told
    from training.progress import training_bar  # noqa: PLC0415
    from training.run import train  # noqa: PLC0415

    with training_bar() as advance:
        report = train(place, settings.training, advance, crew=crew)
    for problem in report.counts.problems:
        print(problem, file=sys.stderr)
    return json.dumps(report.as_dict()) if args.json else _as_text(report)


def _recalibrate(settings: Settings) -> None:
    """Let the router's calibration follow the champion. The cycle has ended: what goes wrong here is said, no more."""
    from training.recalibrate import recalibrate  # noqa: PLC0415  # numpy

    try:
        found = recalibrate(settings)
    except (ThinkTwiceError, OSError) as error:
        print(f"the router was not calibrated: {error}", file=sys.stderr)
        return
    if found is not None:
        print(f"calibrated the router for {found.policy} on {found.prompts} prompts", file=sys.stderr)


def _check_together(args: argparse.Namespace, crew: Crew) -> None:
    """Raises `ConfigError` for flags that do not go together: --mode distill needs two others, and excludes some."""
    if (args.mode == _DISTILL) != (args.student is not None and args.out is not None):
        raise ConfigError("--mode distill, --student and --out go together: give all three or none")
    if args.mode == _DISTILL and (args.if_due or args.top_up):
        raise ConfigError("--if-due and --top-up are of policies, --mode distill makes another model: give one of them")
    if crew.size > 1 and (args.mode == _DISTILL or args.top_up):
        raise ConfigError("--mode distill and --top-up run in one process: start them without a launcher")


def _overrides(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The flags that were given, as keys of the configuration."""
    flags = ("model", "mode", "max_groups", "learning_rate", "rank", "epochs", "seed")
    given = {
        "log": {"dir": args.log_dir},
        "state": {"dir": args.state_dir},
        "training": {name: getattr(args, name) for name in flags if getattr(args, name) != _DISTILL},
    }
    return {
        section: {name: value for name, value in keys.items() if value is not None} for section, keys in given.items()
    }


def _only_model(state_dir: Path) -> Path:
    found = sorted(path.parent for path in (state_dir / "models").glob("[!.]*/config.json"))
    if len(found) != 1:
        what = f"{len(found)} models are" if found else "no model is"
        raise ConfigError(f"{what} in {state_dir / 'models'}: give the folder of the one that serves with --model")
    return found[0]


def _as_text(report: Report) -> str:
    counts = report.counts
    lines: dict[str, Any] = {
        "groups read": counts.groups_read,
        "groups kept": counts.groups_kept,
        "dropped groups": _listed(counts.dropped_groups),
        "by difficulty": _listed(counts.difficulty),
        "completions kept": counts.rows_kept,
        "labelled by": _listed(counts.label_sources),
        "dropped completions": _listed(counts.dropped_rows),
        "forgotten": counts.forgotten,
    }
    if report.steps:
        last = report.steps[-1]
        lines |= {
            "steps": f"{last.step} of {last.steps}, ended: {report.ended}",
            "last step": f"loss {last.loss:.4g}{_drift(last)}",
            "metrics": report.folder,
        }
    made = f"registered {report.policy}; it serves once it is promoted"
    last_line = (
        made
        if report.policy
        else f"nothing to train on: no policy was made; dropped groups: {_listed(counts.dropped_groups)}"
    )
    return "\n".join([*(f"{name:<22}{value}" for name, value in lines.items()), last_line])


def _as_text_taught(taught: Distilled) -> str:
    counts = taught.counts
    known = f"answers kept          {counts.rows_kept}\ndropped answers       {_listed(counts.dropped_rows)}\n"
    if taught.out is None:
        return f"{known}nothing to learn from: no model was made; dropped groups: {_listed(counts.dropped_groups)}"
    return f"{known}loss                  {taught.losses[0]:.4g} to {taught.losses[-1]:.4g}\nmade {taught.out}"


def _drift(step: StepMetrics) -> str:
    if step.kl is None or step.clip_fraction is None:
        return ""
    return f", KL {step.kl:.2g} nats a token, clipped {step.clip_fraction:.1%}"


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{reason} {number}" for reason, number in sorted(counts.items())) or "-"
