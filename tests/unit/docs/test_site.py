"""The documentation site builds without a warning, loads nothing from elsewhere, and shows lists as lists."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ITEM = re.compile(r"([-*]|\d+\.) ")


def build(config: Path, to: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config), "-d", str(to)]
    env = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("site")
    done = build(ROOT / "mkdocs.yml", to)
    assert done.returncode == 0 and "WARNING" not in done.stdout + done.stderr, done.stderr
    return to


def test_every_page_is_built(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs").with_suffix("") for path in (ROOT / "docs").rglob("*.md")}
    built = {path.parent.relative_to(site) for path in site.rglob("index.html")}
    assert {page.parent if page.name == "README" else page for page in pages} == built


def test_a_broken_link_fails_the_build(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("[gone](gone.md)")
    lines = (ROOT / "mkdocs.yml").read_text().partition("nav:\n  -")[0]
    (tmp_path / "mkdocs.yml").write_text(lines)
    done = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert done.returncode == 1 and "gone.md" in done.stderr


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    loaded = re.compile(r'(?:src|<link[^>]*href)="?(?:https?:)?//[^"> ]+')
    for page in site.rglob("index.html"):
        assert loaded.findall(page.read_text()) == [], page


def test_a_list_stands_apart_from_the_text_before_it() -> None:
    """Python-Markdown, which makes the site, reads it as text otherwise; GitHub does not."""
    for page in (ROOT / "docs").rglob("*.md"):
        before, fenced = "", False
        for number, line in enumerate(page.read_text().splitlines(), 1):
            fenced ^= line.lstrip().startswith("```")
            if not fenced and ITEM.match(line) and not before.startswith((" ", "#")):
                assert not before or ITEM.match(before), f"{page}:{number}"
            before = line


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md", "deploy/README.md"])
def test_what_a_page_outside_the_site_links_is_there(name: str) -> None:
    page = ROOT / name
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", page.read_text()) if "://" not in link]
    assert links and [link for link in links if not (page.parent / link).exists()] == []
