"""What is shipped: one wheel of three packages, a serving install without torch, names that are ours alone."""

import subprocess
import sys
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from gateway.http.console.page import Console

ROOT = Path(__file__).parents[2]
LOCKS = ROOT / "deploy" / "locks"


def locked(name: str) -> set[str]:
    lines = (LOCKS / f"{name}.txt").read_text().splitlines()
    return {line.split("==")[0] for line in lines if "==" in line and not line.startswith((" ", "#"))}


def test_the_wheel_holds_the_three_packages_and_nothing_else(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        ".",
    ]
    subprocess.run([*command], cwd=ROOT, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"gateway", "router", "training", "thinktwice-0.1.0.dist-info"}
    for package in ("gateway", "router", "training"):
        assert f"{package}/py.typed" in names
    assert "gateway/local/demo_problems.json" in names
    assert {f"gateway/http/console/static/{name}" for name in Console().names} <= set(names)


@pytest.mark.parametrize("package", ["gateway", "router", "training"])
def test_our_generic_names_are_ours_alone(package: str) -> None:
    owners = packages_distributions().get(package, [])  # empty for an editable install
    assert set(owners) <= {"thinktwice"}


def test_a_serving_install_has_no_torch() -> None:
    assert not locked("serve") & {"torch", "transformers", "peft", "accelerate", "trl"}
    assert {"fastapi", "redis", "prometheus-client"} <= locked("serve")


@pytest.mark.parametrize("name", ["serve", "embedded", "train", "dev"])
def test_every_locked_package_has_its_hashes(name: str) -> None:
    blocks = (LOCKS / f"{name}.txt").read_text().replace("\\\n", " ").splitlines()
    pinned = [block for block in blocks if "==" in block]
    assert pinned and all("--hash=sha256:" in block for block in pinned)


def test_the_locks_agree_with_each_other() -> None:
    def versions(name: str) -> set[str]:
        lines = (LOCKS / f"{name}.txt").read_text().splitlines()
        return {line.split(" ")[0] for line in lines if "==" in line and not line.startswith(" ")}

    for name in ("serve", "embedded", "train"):
        assert versions(name) <= versions("dev")
