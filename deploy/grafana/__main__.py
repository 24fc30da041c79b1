"""Writes every dashboard into a folder: `python -m deploy.grafana deploy/grafana/dashboards`."""

from __future__ import annotations

import sys
from pathlib import Path

from deploy.grafana.boards import BOARDS


def main(folder: Path) -> None:
    """Write one JSON file a board."""
    for board in BOARDS:
        (folder / f"{board().name}.json").write_text(board().json())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
