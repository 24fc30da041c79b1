from pathlib import Path

import pytest

from router.cli_docs import markdown

PAGE = Path(__file__).parents[3] / "docs" / "cli.md"


def test_the_committed_page_is_the_generated_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert PAGE.read_text() == markdown() + "\n", "run: make docs"
