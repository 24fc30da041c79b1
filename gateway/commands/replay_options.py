"""Where `simulate` and `calibrate` take their groups from: a recorded bank, or the group log."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from router.errors import ConfigError

if TYPE_CHECKING:
    from router.settings import Settings
    from router.simulation.problem import Problem


def add_source(parser: argparse.ArgumentParser) -> None:
    """Bank or log, and whose groups of it."""
    parser.add_argument("--bank", type=Path, metavar="FILE", help="recorded bank, instead of the group log")
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration (default: ./thinktwice.toml)")
    parser.add_argument("--dir", type=Path, help="log directory (default: the configuration's)")
    parser.add_argument("--policy", metavar="NAME", help="whose groups (default: the champion's)")
    parser.add_argument("--seed", type=int, default=0, help="of orders, folds and intervals (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def bank_problems(path: Path, settings: Settings) -> tuple[Problem, ...]:
    """The problems of a bank, judged apart from this process. Raises `ConfigError`."""
    from router.simulation.bank import load_bank  # noqa: PLC0415  # quick `--help`
    from router.simulation.problem import judged  # noqa: PLC0415
    from router.verify.verifier import open_verifier  # noqa: PLC0415

    rows = load_bank(path)

    async def judge() -> tuple[Problem, ...]:
        async with open_verifier(settings.verify, settings.sandbox) as verifier:
            return await judged(rows, verifier.verify)

    return asyncio.run(judge())


def log_of(args: argparse.Namespace, settings: Settings) -> Path:
    """The directory of the group log. Raises `ConfigError` when there is none."""
    log_dir: Path = args.dir or settings.log.dir
    if not log_dir.is_dir():
        raise ConfigError(f"there is no group log in {log_dir}: give its directory with --dir, or a bank with --bank")
    return log_dir


def policy_of(args: argparse.Namespace, settings: Settings, log_dir: Path | None = None) -> str:
    """The policy meant: `--policy`, else the champion, else the base model, the log's newest where none is set.

    Raises `ConfigError` when it is unknown, or the log empty.
    """
    from router.registry import PolicyRegistry  # noqa: PLC0415  # quick `--help`
    from router.simulation.stream import latest_base_model  # noqa: PLC0415

    latest = None if log_dir is None else latest_base_model(log_dir)
    if log_dir is not None and latest is None:
        raise ConfigError(f"the group log in {log_dir} is empty: serve some traffic, or give a bank with --bank")
    name = args.policy or PolicyRegistry(settings.state.dir).champion().policy or settings.backend.model or latest
    if name is None:
        raise ConfigError("whose samples are these? Name the policy with --policy, or set [backend] model")
    return str(name)
