"""The Ray job, against a stand-in of the four calls it makes of Ray: Ray itself is not installed for tests."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


def as_task(function: Callable[..., Any]) -> SimpleNamespace:
    return SimpleNamespace(remote=function)


@pytest.mark.parametrize(("code", "ends"), [(0, 0), (1, 1), (75, 0)])
def test_the_job_ends_as_the_cycle_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, ends: int) -> None:
    program = tmp_path / "thinktwice"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/told\nexit {code}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    asked: dict[str, Any] = {}
    ray: Any = ModuleType("ray")
    ray.init, ray.get = (lambda: None), (lambda found: found)
    ray.remote = lambda **options: asked.update(options) or as_task
    monkeypatch.setitem(sys.modules, "ray", ray)
    spec = importlib.util.spec_from_file_location("cycle", Path("deploy/ray/cycle.py"))
    assert spec is not None and spec.loader is not None
    job = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(job)
    assert job.main(["--config", "a.toml"]) == ends
    assert (tmp_path / "told").read_text() == "train --if-due --config a.toml\n"
    assert asked == {"num_gpus": 1, "max_retries": 0}
