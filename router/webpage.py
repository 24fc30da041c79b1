"""A report as one web page that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from router.errors import ConfigError

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; font-size: 14px; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid #ddd; padding: .25rem .6rem; text-align: left; vertical-align: top; }
figure { margin: 1.5rem 0; } figcaption { color: #444; max-width: 48rem; } svg { max-width: 100%; height: auto; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; } td pre { min-width: 7ch; }
"""


def write_webpage(path: Path, title: str, parts: Sequence[str]) -> None:
    """Write the page; `parts` are HTML. Raises `ConfigError` when that cannot be done."""
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    try:
        path.write_text(head + "\n".join(parts) + "</html>\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}: choose another path") from error


def figure(svg: str, caption: str) -> str:
    """A drawing above what it shows."""
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of text cells; line breaks in them are kept."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td><pre>{escape(cell)}</pre></td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"
