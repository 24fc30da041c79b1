"""`thinktwice log`: check the group log, count what it holds, compact it, forget what must go."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from router.errors import ConfigError, LogUnavailable

if TYPE_CHECKING:
    from router.settings import Settings

    Subparsers: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]

_ACTIONS = "thinktwice.commands.log"  # what other packages add: `register(subparsers)`, as a command's
_EXITS = "exit codes: 0 done and nothing wrong, 1 damage found, 2 usage"


def register(subparsers: Subparsers) -> None:
    """Add the command `log`."""
    summary = "check, count, compact or forget logged groups"
    parser = subparsers.add_parser("log", help=summary, description=f"{summary.capitalize()}.", epilog=_EXITS)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--config", type=Path, metavar="FILE", help="configuration (default: ./thinktwice.toml)")
    options.add_argument("--dir", type=Path, help="log directory (default: the configuration's)")
    options.add_argument("--json", action="store_true", help="print one JSON object")

    def add(run: Callable[[argparse.Namespace], int], summary: str) -> argparse.ArgumentParser:
        action = actions.add_parser(
            run.__name__, help=summary, description=f"{summary.capitalize()}.", epilog=_EXITS, parents=[options]
        )
        action.set_defaults(run=run)
        return action

    add(verify, "check every segment: frames, hashes, records, duplicates")
    add(stats, "count groups, samples and tokens")
    add(compact, "move sealed segments into Parquet files, and drop what is older than [log] keep_days")
    which = add(forget, "remove groups from the log for good").add_mutually_exclusive_group(required=True)
    which.add_argument("--tenant", help="every group this tenant has had until now")
    which.add_argument("--group", metavar="ID", help="this group")
    for action in entry_points(group=_ACTIONS):
        action.load()(actions)


def verify(args: argparse.Namespace) -> int:
    """Check the whole log; 1 when damage was found."""
    from router.log.audit import audit  # noqa: PLC0415  # quick `--help`

    log_dir = _log_dir(args)
    with _progress("verifying", log_dir) as advance:
        found = audit(log_dir, advance)
    result = {
        "segments": found.segments,
        "groups": found.groups,
        "labels": found.labels,
        "forgotten": found.forgotten,
        "hidden": found.hidden,
        "torn_bytes": found.torn_bytes,
        "damage": dict(found.damage),
    }
    _print(args, result, found.problems)
    if found.hidden and not args.json:
        print("hidden groups are cut out when their segment is sealed, or by the next `thinktwice log forget`")
    return 1 if found.damage else 0


def stats(args: argparse.Namespace) -> int:
    """Count what the log holds; 1 when a part of it could not be read."""
    from router.log.groups import OnCorrupt, Tally, read_groups  # noqa: PLC0415  # quick `--help`
    from router.log.labels import read_labels  # noqa: PLC0415
    from router.log.parts import PARQUET, parts  # noqa: PLC0415
    from router.log.segments import OPEN, SEALED  # noqa: PLC0415
    from router.log.stats import LogStats  # noqa: PLC0415

    log_dir = _log_dir(args)
    counts, tally = LogStats(), Tally()
    size = sum(part.path.stat().st_size for part in parts(log_dir, PARQUET, SEALED, OPEN))
    with _progress("counting", log_dir) as advance:
        read = read_groups(log_dir, include_open=True, on_corrupt=OnCorrupt.SKIP, tally=tally, advance=advance)
        for _, record in read:
            counts.add(record)
    labels = Counter(label.source.value for _, label in read_labels(log_dir) if label is not None)
    result = {
        **counts.as_dict(),
        "labels": dict(labels.most_common()),
        "forgotten": tally.forgotten,
        "files": tally.segments,
        "bytes": size,
    }
    if not args.json:
        result |= {name: _time(result[name]) for name in ("first", "last")}
    _print(args, result, tally.problems)
    return 1 if tally.damage else 0


def compact(args: argparse.Namespace) -> int:
    """Move sealed segments into Parquet files and drop what is older than it may be; 1 when a segment is damaged."""
    from router.log import compaction  # noqa: PLC0415  # quick `--help`

    log_dir, section = _log_dir(args), _settings(args).log
    oldest = time.time() - section.keep_days * 86400 if section.keep_days else float("-inf")
    try:
        with _progress("compacting", log_dir) as advance:
            done = compaction.compact(log_dir, min_free_bytes=section.min_free_bytes, oldest=oldest, advance=advance)
    except OSError as error:
        raise LogUnavailable(f"cannot change the group log in {log_dir}: {error}: run this again") from error
    result = asdict(done)
    left = result.pop("left")
    _print(args, result, left)
    return 1 if left else 0


def forget(args: argparse.Namespace) -> int:
    """Remove a group or a tenant; 1 when a damaged segment may still hold some of it."""
    from router.log import forget as forgetting  # noqa: PLC0415  # quick `--help`

    log_dir = _log_dir(args)
    try:
        with _progress("forgetting", log_dir) as advance:
            done = forgetting.forget(log_dir, tenant=args.tenant, group=args.group, advance=advance)
    except OSError as error:
        raise LogUnavailable(f"cannot change the group log in {log_dir}: {error}: run this again") from error
    result = {
        "removed": done.removed,
        "labels": done.labels,
        "pending": done.pending,
        "unsearchable": [str(path) for path in done.unsearchable],
    }
    _print(
        args, result, [f"{path}: cannot be searched, it may hold such groups: delete it" for path in done.unsearchable]
    )
    if done.pending and not args.json:
        print("pending groups are hidden now, and cut out when the running gateway seals their segment")
    return 1 if done.unsearchable else 0


def _settings(args: argparse.Namespace) -> Settings:
    from router.settings import load_settings  # noqa: PLC0415  # quick `--help`

    return load_settings(args.config)


def _log_dir(args: argparse.Namespace) -> Path:
    path: Path = args.dir or _settings(args).log.dir
    if not path.is_dir():
        raise ConfigError(f"there is no group log in {path}: give its directory with --dir or [log] dir")
    return path


@contextmanager
def _progress(title: str, log_dir: Path) -> Iterator[Callable[[Path], None]]:
    """A bar on a terminal's stderr; yields what to call with each segment that is done."""
    from rich.console import Console  # noqa: PLC0415  # quick `--help`
    from rich.progress import Progress  # noqa: PLC0415

    from router.log.parts import PARQUET, parts  # noqa: PLC0415
    from router.log.segments import CORRUPT, OPEN, SEALED  # noqa: PLC0415

    total = len(parts(log_dir, PARQUET, SEALED, OPEN, CORRUPT))
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(title, total=total)
        yield lambda _: bar.advance(task)


def _print(args: argparse.Namespace, result: Mapping[str, Any], problems: list[str]) -> None:
    for problem in problems:
        print(problem, file=sys.stderr)
    if args.json:
        print(json.dumps({**result, "problems": problems}))
        return
    for name, value in result.items():
        shown = ", ".join(f"{key} {count}" for key, count in value.items()) if isinstance(value, dict) else value
        print(f"{name.replace('_', ' '):<22}{shown if shown not in ('', []) else '-'}")


def _time(seconds: float | None) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds") if seconds is not None else ""
