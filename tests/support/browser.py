"""Debian's headless Chromium, from the folder that `deploy/debian-chromium` fills, driven by Playwright."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.support.engines import cache_folder

_FILL = Path(__file__).parents[2] / "deploy" / "debian-chromium"
_UNAVAILABLE = 3  # its exit code where Chromium cannot be had


@contextmanager
def chromium() -> Iterator[Browser]:
    """One browser process. Skips the test, with the reason, where there is none."""
    folder = cache_folder() / "debian-chromium"
    filled = subprocess.run([str(_FILL), str(folder)], capture_output=True, text=True, timeout=280, check=False)
    if filled.returncode == _UNAVAILABLE:
        pytest.skip(filled.stderr.strip().splitlines()[-1])
    assert filled.returncode == 0, filled.stderr
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=folder / "chromium")
        yield browser
        browser.close()
