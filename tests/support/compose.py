"""`deploy/compose.gpu.yaml` and `compose.cpu.yaml` as Compose would read them, with what they include."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CHOSEN = {"MODEL_DIR": "/srv/models/tiny", "MODEL_NAME": "tiny", "GRAFANA_ADMIN_PASSWORD": "secret"}
_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def compose(kind: str = "gpu", chosen: Mapping[str, str] = CHOSEN) -> dict[str, Any]:
    """Services and volumes for one kind of machine. Raises `KeyError` for a variable without a value and a default."""
    own = _read(DEPLOY / f"compose.{kind}.yaml", chosen)
    for name in own.pop("include"):
        included = _read(DEPLOY / name, chosen)
        assert not included["services"].keys() & own["services"].keys(), "Compose refuses a service of both files"
        own["services"] = included["services"] | own["services"]
        own["volumes"] = included["volumes"]
    return own


def service(name: str, kind: str = "gpu") -> dict[str, Any]:
    """One service."""
    found: dict[str, Any] = compose(kind)["services"][name]
    return found


def flags(name: str, kind: str = "gpu") -> dict[str, str]:
    """The `--name=value` arguments of a service's command."""
    given = (word.removeprefix("--") for word in service(name, kind)["command"] if word.startswith("--"))
    return {name: value for name, _, value in (word.partition("=") for word in given)}


def _read(file: Path, chosen: Mapping[str, str]) -> dict[str, Any]:
    def filled(match: re.Match[str]) -> str:
        name, kind, rest = match.groups()
        return chosen.get(name) or rest if kind == "-" else chosen[name]

    content: dict[str, Any] = yaml.load(_VARIABLE.sub(filled, file.read_text()), yaml.CSafeLoader)
    return content
