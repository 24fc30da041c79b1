"""Every block of the README, the quickstart and the how-tos does what a reader would have it do.

Shell and Python run, in order, beside one gateway whose configuration is all their TOML together, in front of the mock
engine. A block that is not run says why in the page's source, and they are few.
"""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from router.registry import PolicyRegistry
from router.settings import load_settings
from tests.support.code_blocks import Block, blocks, blocks_of
from tests.support.gateway_process import GatewayProcess
from tests.support.mock_engine import MODEL, MockEngine, Script

NOT_RUN_AT_MOST = 8
RUN, READ = {"sh", "python"}, {"toml": tomllib.loads, "json": json.loads, "yaml": yaml.safe_load}
BLOCKS = blocks()
SCRIPTS = {
    "17 * 6": Script(("17 times 6 is \\boxed{102}.",)),
    "Invoice": Script(('{"number": "INV-7", "total": 12.5}',)),
}
SHIM = """#!/bin/sh
case "$1" in ask|promote) set -- "$@" --url {url} ;; esac
exec {python} -m router "$@"
"""


@dataclass(frozen=True, slots=True)
class Reader:
    """Somebody at a shell beside the gateway, in its folder, with `thinktwice` on the path."""

    url: str
    folder: Path
    env: dict[str, str]

    def run(self, block: Block) -> str:
        """What the block prints. Fails with what it said when it did not end well."""
        text = block.text.replace("http://127.0.0.1:8000", self.url)
        if block.language == "python":  # in this process, which has imported the OpenAI client once
            printed = io.StringIO()
            with redirect_stdout(printed):
                exec(compile(text, block.where, "exec"), {"__name__": "__main__"})
            return printed.getvalue()
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{block.where}: {done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    home = tmp_path_factory.mktemp("reader")
    policy = two_policies(home)
    config = merged(tomllib.loads(block.text) for block in BLOCKS if block.language == "toml")
    config = {name: values for name, values in config.items() if name != "redis"}  # there is none here
    env = {f"THINKTWICE_{section.upper()}": json.dumps(values) for section, values in config.items()}
    with MockEngine(SCRIPTS) as engine, GatewayProcess(home, engine.url, env=env) as gateway:
        gateway.wait_for("/readyz", 200)
        shim = home / "bin" / "thinktwice"
        shim.parent.mkdir()
        shim.write_text(SHIM.format(url=gateway.url, python=sys.executable))
        shim.chmod(shim.stat().st_mode | stat.S_IXUSR)
        state = {"THINKTWICE_STATE__DIR": str(home / "state"), "THINKTWICE_LOG__DIR": str(gateway.log_dir)}
        path = f"{shim.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        known = {"PATH": path, "POLICY": policy, "NO_PROXY": "*", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        yield Reader(gateway.url, home, os.environ | state | known)


@pytest.mark.parametrize("block", [each for each in BLOCKS if not each.not_run], ids=lambda block: block.where)
def test_a_block_does_what_it_says(request: pytest.FixtureRequest, tmp_path: Path, block: Block) -> None:
    if block.language in READ:
        READ[block.language](block.text)
        if block.language == "toml":
            (tmp_path / "thinktwice.toml").write_text(block.text)
            load_settings(tmp_path / "thinktwice.toml")
        return
    assert block.language in RUN, f"{block.where}: a block says its language: {sorted(RUN | READ.keys())}, or text"
    printed = request.getfixturevalue("reader").run(block)
    assert block.prints is None or printed == block.prints


def test_few_blocks_are_not_run_and_each_says_why() -> None:
    left_out = [f"{block.where}: {block.not_run}" for block in BLOCKS if block.not_run]
    print(*left_out, sep="\n")
    assert len(left_out) <= NOT_RUN_AT_MOST
    assert len(BLOCKS) - len(left_out) > 2 * len(left_out)


def test_a_block_is_found_with_its_marker_and_what_it_prints() -> None:
    page = "<!-- not run: why -->\n```sh\nfalse\n```\n\n```python\nprint(1)\n```\n\nIt prints:\n\n```text\n1\n```\n"
    assert blocks_of(page, "p") == [
        Block("p:2", "sh", "false\n", "why"), Block("p:6", "python", "print(1)\n", None, "1\n"),
    ]  # fmt: skip


def two_policies(home: Path) -> str:
    """Register and promote two policies; the name of the second, which serves."""
    registry, adapter = PolicyRegistry(home / "state"), home / "adapter"
    adapter.mkdir()
    for rank in (4, 8):
        (adapter / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": rank}))
        name = registry.register(adapter, {"base_model": MODEL})
        registry.promote(name, "better", "test")
    return name


def merged(tables: Iterator[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """All of them in one, table by table."""
    whole: dict[str, dict[str, Any]] = {}
    for table in tables:
        for section, values in table.items():
            whole[section] = whole.get(section, {}) | values
    return whole
