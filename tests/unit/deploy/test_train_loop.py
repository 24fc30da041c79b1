"""`deploy/train-loop`: trains again and again, whatever came of the last time, and ends when it is asked to."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from router.cli import GROUP, build_parser
from tests.support.compose import DEPLOY, service


@contextmanager
def looping(folder: Path, fake: str, arguments: Sequence[str] = ()) -> Iterator[subprocess.Popen[bytes]]:
    """The loop with `thinktwice` replaced by a shell script that notes its arguments in `folder`/calls first."""
    command = folder / "thinktwice"
    command.write_text(f'#!/bin/sh\necho "$@" >>{shlex.quote(str(folder / "calls"))}\n{fake}\n')
    command.chmod(0o755)
    env = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "TRAIN_INTERVAL_S": "0.05"}
    with (folder / "complaints").open("wb") as complaints:
        loop = subprocess.Popen([DEPLOY / "train-loop", *arguments], env=env, stderr=complaints)
    try:
        yield loop
    finally:
        loop.kill()
        loop.wait(10)


def calls(folder: Path, at_least: int) -> list[str]:
    """What `thinktwice` was called with, once it was called so often."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        said = (folder / "calls").read_text().splitlines() if (folder / "calls").exists() else []
        if len(said) >= at_least:
            return said
        time.sleep(0.02)
    raise AssertionError(f"thinktwice was not called {at_least} times")


@pytest.mark.parametrize("code, complaint", [(0, ""), (75, ""), (1, "exit code 1"), (2, "exit code 2")])
def test_it_goes_on_whatever_came_of_it(tmp_path: Path, code: int, complaint: str) -> None:
    with looping(tmp_path, f"exit {code}") as loop:
        calls(tmp_path, 3)
        loop.send_signal(signal.SIGTERM)
        assert loop.wait(10) == 0
    said = (tmp_path / "complaints").read_text()
    assert (complaint in said) if complaint else said == ""


def test_a_running_training_is_ended_with_it(tmp_path: Path) -> None:
    with looping(
        tmp_path, f"trap 'echo ended >>{shlex.quote(str(tmp_path))}/calls; exit 1' TERM\nsleep 60 &\nwait"
    ) as loop:
        calls(tmp_path, 1)
        time.sleep(0.1)  # until the trap is set
        loop.send_signal(signal.SIGTERM)
        assert loop.wait(10) == 0
    assert calls(tmp_path, 2)[-1] == "ended"


def test_what_the_trainer_runs_is_a_command_line(tmp_path: Path) -> None:
    with looping(tmp_path, "exit 0", service("trainer")["command"]):
        [called, *_] = calls(tmp_path, 1)
    args = build_parser(entry_points(group=GROUP)).parse_args(called.split())
    assert args.if_due and args.run.__module__ == "training.command"
