"""The units start commands that exist, as a user without rights, and systemd itself finds nothing to say of them."""

from __future__ import annotations

import configparser
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNITS = Path("deploy/systemd")
SERVICES = sorted(path.name for path in UNITS.glob("*.service"))
TIMERS = sorted(path.name for path in UNITS.glob("*.timer"))


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's keys have capitals
    parser.read_string((UNITS / name).read_text())
    return parser


def test_every_timer_has_its_service() -> None:
    assert TIMERS == ["thinktwice-compact.timer", "thinktwice-evaluate.timer", "thinktwice-train.timer"]
    assert {name.replace(".timer", ".service") for name in TIMERS} | {"thinktwice.service"} == set(SERVICES)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_runs_a_command_that_exists_without_rights(name: str) -> None:
    service = unit(name)["Service"]
    assert service["User"] == "thinktwice" and service["NoNewPrivileges"] == "yes"
    assert service["ProtectSystem"] == "strict" and "RestrictNamespaces" not in service
    program, *command = shlex.split(service["ExecStart"])
    assert program == "/opt/thinktwice/bin/thinktwice"
    words = [word for word in command if not word.startswith(("-", "/"))]
    done = subprocess.run(
        [sys.executable, "-m", "router", *words, "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0 and all(flag in done.stdout for flag in command if flag.startswith("--"))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_finds_no_fault(tmp_path: Path) -> None:
    program = tmp_path / "thinktwice"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    units = [tmp_path / name for name in (*SERVICES, *TIMERS)]
    for name in (*SERVICES, *TIMERS):
        text = (UNITS / name).read_text().replace("/opt/thinktwice/bin/thinktwice", str(program))
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *units],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
