"""`thinktwice log export`: the log for other trainers. Nothing heavy is imported before it runs."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from router.errors import ConfigError

if TYPE_CHECKING:
    Subparsers: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]

_FORMATS = ("sft", "dpo", "grpo")


def register(actions: Subparsers) -> None:
    """Add the action `export`."""
    summary = "write groups that may train as JSON Lines for other trainers"
    parser = actions.add_parser(
        "export",
        help=summary,
        description="Write groups that may train as JSON Lines for other trainers: sft, conversations with verified "
        "answers; dpo, pairs of a verified and a failed answer; grpo, groups with token ids, log-probabilities and "
        "rewards.",
        epilog="exit codes: 0 done, 1 it failed, 2 usage",
    )
    parser.add_argument("--format", required=True, choices=_FORMATS, help="whose shape a line has")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="file to write, replaced when whole")
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration (default: ./thinktwice.toml)")
    parser.add_argument("--dir", type=Path, help="log directory (default: the configuration's)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the file and say what was dropped. Raises `ConfigError`, `RecordError` and `RegistryError`."""
    from router.fs import replacing  # noqa: PLC0415  # quick `--help`
    from router.registry import PolicyRegistry  # noqa: PLC0415
    from router.settings import Mode, load_settings  # noqa: PLC0415
    from training.dataset import Counts  # noqa: PLC0415
    from training.export import Format, exported, text_accepts  # noqa: PLC0415
    from training.overlap import evaluation_prompts  # noqa: PLC0415

    settings = load_settings(args.config)
    log_dir = args.dir or settings.log.dir
    if not log_dir.is_dir():
        raise ConfigError(f"there is no group log in {log_dir}: give its directory with --dir or [log] dir")
    kind, counts = Format(args.format), Counts()
    accepts = text_accepts(settings.heldout.share, evaluation_prompts(settings.training))
    if kind is Format.GRPO:
        champion = PolicyRegistry(settings.state.dir).champion().policy
        accepts = replace(accepts, champion=champion, base_model=settings.backend.model, mode=Mode.GRPO)
    try:
        with replacing(args.out) as file:
            for line in exported(log_dir, kind, accepts, counts):
                file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
    except OSError as error:
        raise ConfigError(f"cannot export to {args.out}: {error}") from error
    for problem in counts.problems:
        print(problem, file=sys.stderr)
    print(json.dumps(counts.as_dict()) if args.json else _as_text(args.out, counts.as_dict()))
    return 0


def _as_text(out: Path, counts: dict[str, object]) -> str:
    shown = ("groups_read", "groups_kept", "dropped_groups", "dropped_rows", "forgotten")
    lines = []
    for name in shown:
        value = counts[name]
        if isinstance(value, dict):
            value = ", ".join(f"{reason} {number}" for reason, number in sorted(value.items())) or "-"
        lines.append(f"{name.replace('_', ' '):<22}{value}")
    return "\n".join([*lines, f"{counts['rows_kept']} lines in {out}"])
