"""The gateways of the benchmark are pinned, and never to a release that is known to be malicious."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
MALICIOUS = {"1.82.7", "1.82.8", "1.107.0"}  # of LiteLLM


def test_python_peers_are_pinned_by_hash() -> None:
    lock = (ROOT / "deploy/locks/peers.txt").read_text()
    entries = re.split(r"\n(?=\S)", lock.strip())
    pins = dict(entry.split(maxsplit=1)[0].split("==") for entry in entries)
    assert {"litellm", "vllm-router"} <= pins.keys() and pins["litellm"] not in MALICIOUS
    assert all("--hash=sha256:" in entry for entry in entries)


def test_node_peers_are_pinned_by_hash() -> None:
    packages = json.loads((ROOT / "tests/bench/peers/package-lock.json").read_text())["packages"]
    installed = {name: package for name, package in packages.items() if name}
    assert "node_modules/@portkey-ai/gateway" in installed
    assert all(package["integrity"].startswith("sha512-") for package in installed.values())
