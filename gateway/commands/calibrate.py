"""`thinktwice calibrate`: learn how hard prompts are from what samples came to."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from gateway.commands.replay_options import add_source, bank_problems, log_of, policy_of
from router.errors import ConfigError

if TYPE_CHECKING:
    from router.calibration.model import Calibration, Escalated, Target
    from router.calibration.observe import Observation
    from router.settings import Settings

    Subparsers: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]


def register(subparsers: Subparsers) -> None:
    """Add the command `calibrate`."""
    summary = "fit the router's difficulty on logged groups or a recorded bank"
    parser = subparsers.add_parser(
        "calibrate",
        help=summary,
        description="Fit the chance that one sample solves a prompt, and write it where running gateways take it up "
        "(docs/calibration.md).",
        epilog="exit codes: 0 written, 1 too few data, or nothing to tell apart (what was there stays), 2 usage or bad "
        "data",
    )
    add_source(parser)
    parser.add_argument("--dry-run", action="store_true", help="fit and report, write nothing")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Fit, write and report. Raises `CalibrationError` when there is too little to fit, and `ConfigError`."""
    from router.calibration.file import save_calibration  # noqa: PLC0415  # quick `--help`
    from router.settings import load_settings  # noqa: PLC0415
    from router.simulation.refit import refit  # noqa: PLC0415

    settings = load_settings(args.config)
    data = _data(args, settings)
    found = refit(
        settings,
        data.observations,
        policy=data.policy,
        source=data.source,
        escalations=data.escalations,
        seed=args.seed,
    )
    path = None
    if not args.dry_run:
        try:
            path = save_calibration(settings.state.dir, found)
        except OSError as error:
            raise ConfigError(f"cannot write into {settings.state.dir}: {error}: set [state] dir") from error
    _print(found, None if path is None else str(path), as_json=args.json)
    return 0


@dataclass(frozen=True, slots=True)
class _Data:
    """What to learn from, whose it is, and where it comes from."""

    observations: list[Observation]
    policy: str
    source: str
    escalations: dict[str, Escalated] = field(default_factory=dict)


def _data(args: argparse.Namespace, settings: Settings) -> _Data:
    if args.bank is not None:
        from router.simulation.observe import observation  # noqa: PLC0415  # quick `--help`

        policy = policy_of(args, settings)
        return _Data([observation(each) for each in bank_problems(args.bank, settings)], policy, args.bank.name)
    from router.heldout import load_salt  # noqa: PLC0415  # quick `--help`
    from router.simulation.logged import escalations_of, observations_of  # noqa: PLC0415
    from router.simulation.stream import newest_groups  # noqa: PLC0415

    log_dir = log_of(args, settings)
    policy = policy_of(args, settings, log_dir)
    observations = observations_of(newest_groups(log_dir, policy), policy, load_salt(settings.state.dir))
    return _Data(observations, policy, "group log", escalations_of(newest_groups(log_dir, policy), policy))


def _said(target: Target) -> str:
    if target.value is None:
        return (
            f"a solve rate of {target.solve_rate:.1%} is out of reach: full groups are expected to solve "
            f"{target.reached:.1%}, and no price limits them"
        )
    return (
        f"a solve rate of {target.solve_rate:.1%} is expected where a solved task is worth {target.value:.0f} "
        f"completion tokens ({target.reached:.1%} of checked prompts)"
    )


def _print(found: Calibration, path: str | None, *, as_json: bool) -> None:
    from msgspec import to_builtins  # noqa: PLC0415  # quick `--help`

    quality = found.quality
    low, mean, high = quality.ece_floor
    if as_json:
        facts = {
            name: getattr(found, name) for name in ("policy", "source", "prompts", "samples", "strength", "spread")
        }
        measured = {name: getattr(quality, name) for name in quality.__struct_fields__}
        target = None if found.target is None else to_builtins(found.target)
        print(json.dumps({**facts, **measured, "target": target, "path": path}))
        return
    print(f"{found.policy}: {found.prompts} prompts, {found.samples} samples, from {found.source}")
    print(
        f"on held-out prompts: calibration error {quality.ece:.3f} (a perfect estimate on as many: {mean:.3f} "
        f"[{low:.3f}, {high:.3f}]), Brier {quality.brier:.3f} (the mean alone: {quality.base_brier:.3f}), "
        f"AUC {quality.auc:.2f}"
    )
    if found.target is not None:
        print(_said(found.target))
    for model, seen in found.escalations.items():
        print(f"{model} solved {seen.solved} of {seen.n} prompts that {found.policy} had not")
    print(f"wrote {path}: running gateways take it up" if path else "nothing was written")
