"""A page as PNG, by the headless Chromium that `deploy/debian-chromium` fetches."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.engines import cache_folder

_FILL = Path(__file__).parents[2] / "deploy" / "debian-chromium"


def screenshot(page: Path, image: Path, *, width: int, height: int) -> None:
    """Print `page` to `image`; sizes in pixels.

    Raises `subprocess.CalledProcessError` where there is no browser, or it fails; `stderr` says why.
    """
    folder = cache_folder() / "debian-chromium"
    size = f"--window-size={width},{height}"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", size, f"--screenshot={image}"]
    for command in ([str(_FILL), str(folder)], [str(folder / "chromium"), *options, page.resolve().as_uri()]):
        subprocess.run(command, check=True, capture_output=True, text=True)
