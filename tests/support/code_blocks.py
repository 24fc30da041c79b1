"""The fenced blocks of the pages that promise to work, and why those that are not run are not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/quickstart.md", "docs/capacity.md", *sorted(
    path.relative_to(ROOT).as_posix() for path in (ROOT / "docs" / "howto").glob("*.md")
))  # fmt: skip
NO_CODE = {"text", "mermaid"}  # what a block prints, and pictures
_NOT_RUN = re.compile(r"<!-- not run: (.+) -->")


@dataclass(frozen=True, slots=True)
class Block:
    """One block: where it is, its language and text; why it is not run; what it prints, where the page says so."""

    where: str
    language: str
    text: str
    not_run: str | None = None
    prints: str | None = None


def blocks() -> list[Block]:
    """Every block of every page, in order."""
    return [block for page in PAGES for block in blocks_of((ROOT / page).read_text(), page)]


def blocks_of(markdown: str, page: str) -> list[Block]:
    """The blocks of one page. A marker `<!-- not run: REASON -->` belongs to the block on the next line."""
    found: list[Block] = []
    lines = markdown.splitlines()
    at = 0
    while at < len(lines):
        if not lines[at].startswith("```"):
            at += 1
            continue
        end = lines.index("```", at + 1)
        text = "\n".join(lines[at + 1 : end]) + "\n"
        language = lines[at].removeprefix("```")
        if language == "text" and "It prints:" in lines[at - 2 : at] and found:
            found[-1] = Block(found[-1].where, found[-1].language, found[-1].text, found[-1].not_run, text)
        marker = _NOT_RUN.fullmatch(lines[at - 1]) if at else None
        if language not in NO_CODE:
            found.append(Block(f"{page}:{at + 1}", language, text, marker[1] if marker else None))
        at = end + 1
    return found
