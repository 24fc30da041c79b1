"""The objects of `deploy/kubernetes`: what its kustomization lists, and the job that makes the first key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"


def kustomization() -> dict[str, Any]:
    """What is applied together."""
    content: dict[str, Any] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    return content


def objects() -> list[dict[str, Any]]:
    """Every object, in order."""
    files = [*kustomization()["resources"], "first-key.yaml"]
    return [each for name in files for each in yaml.safe_load_all((FOLDER / name).read_text())]


def of_kind(*kinds: str) -> dict[str, dict[str, Any]]:
    """The objects of these kinds by name."""
    return {each["metadata"]["name"]: each for each in objects() if each["kind"] in kinds}


def pods() -> dict[str, dict[str, Any]]:
    """Every pod template by the name of what makes the pods."""
    return {name: _template(each) for name, each in of_kind("Deployment", "StatefulSet", "CronJob", "Job").items()}


def container(name: str) -> dict[str, Any]:
    """The one container of a pod."""
    [only] = pods()[name]["spec"]["containers"]
    return dict(only)


def _template(each: dict[str, Any]) -> dict[str, Any]:
    spec = each["spec"]["jobTemplate"]["spec"] if each["kind"] == "CronJob" else each["spec"]
    return dict(spec["template"])
