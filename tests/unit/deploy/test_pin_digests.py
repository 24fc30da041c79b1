"""`deploy/pin-digests`: writes what the registries said, all of it or nothing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.compose import DEPLOY

NAMES = ("Dockerfile", "compose.yaml", "compose.gpu.yaml", "compose.cpu.yaml", "kubernetes/vllm.yaml")
ASKED = "buildx imagetools inspect --format {{.Manifest.Digest}} "


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The script beside the files that it edits, in a folder of its own."""
    for name in (*NAMES, "pin-digests"):
        target = tmp_path / "deploy" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(DEPLOY / name, target)
    return tmp_path / "deploy"


def pinned(copy: Path, docker: str) -> subprocess.CompletedProcess[str]:
    """The script's run with a `docker` that notes what it is asked, then runs `docker`."""
    program = copy.parent / "docker"
    program.write_text(f'#!/bin/sh\necho "$@" >>{copy.parent}/asked\n{docker}\n')
    program.chmod(0o755)
    env = os.environ | {"PATH": f"{copy.parent}:{os.environ['PATH']}"}
    return subprocess.run([copy / "pin-digests"], env=env, capture_output=True, text=True, timeout=60, check=False)


def texts(copy: Path) -> list[str]:
    return [(copy / name).read_text() for name in NAMES]


def test_each_image_of_others_gets_the_digest_of_its_tag(copy: Path) -> None:
    before, first, later = texts(copy), "a" * 64, "b" * 64
    assert pinned(copy, f"echo sha256:{first}").returncode == 0
    images = {line.removeprefix(ASKED) for line in (copy.parent / "asked").read_text().splitlines()}
    assert {image.partition(":")[0] for image in images} == {
        "python", "redis", "vllm/vllm-openai", "prom/prometheus", "grafana/grafana",
    }  # fmt: skip
    assert [re.sub(f"@sha256:{first}", "", text) for text in texts(copy)] == before
    named = "".join(re.findall(r"(?:image: |^FROM ).*", "".join(texts(copy)), re.MULTILINE))
    assert named.count(first) == len(re.findall(r"(?:image: |FROM )(?!thinktwice-)[a-z/-]+:", "".join(before)))
    assert pinned(copy, f"echo sha256:{later}").returncode == 0
    assert [text.replace(later, first) for text in texts(copy)] != before
    assert first not in "".join(texts(copy)) and later in texts(copy)[0]


@pytest.mark.parametrize(
    "docker", ["exit 1", "echo nonsense", 'case "$6" in redis*) exit 1;; esac; echo sha256:' + "c" * 64]
)
def test_one_that_is_not_resolved_leaves_all_as_it_was(copy: Path, docker: str) -> None:
    before = texts(copy)
    done = pinned(copy, docker)
    assert done.returncode == 1 and "was not resolved" in done.stderr and done.stderr.count("\n") == 1
    assert texts(copy) == before
