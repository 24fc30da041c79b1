"""`deploy/compose.yaml` as Compose would read it, with its variables filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
FILE = DEPLOY / "compose.yaml"
CHOSEN = {"MODEL_DIR": "/srv/models/tiny", "MODEL_NAME": "tiny", "GRAFANA_ADMIN_PASSWORD": "secret"}
_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def compose(chosen: Mapping[str, str] = CHOSEN) -> dict[str, Any]:
    """The file's content. Raises `KeyError` for a variable that has neither a value nor a default."""

    def filled(match: re.Match[str]) -> str:
        name, kind, rest = match.groups()
        return chosen.get(name) or rest if kind == "-" else chosen[name]

    content: dict[str, Any] = yaml.load(_VARIABLE.sub(filled, FILE.read_text()), yaml.CSafeLoader)
    return content


def service(name: str) -> dict[str, Any]:
    """One service."""
    found: dict[str, Any] = compose()["services"][name]
    return found


def flags(name: str) -> dict[str, str]:
    """The `--name=value` arguments of a service's command."""
    given = (word.removeprefix("--") for word in service(name)["command"] if word.startswith("--"))
    return {name: value for name, _, value in (word.partition("=") for word in given)}
