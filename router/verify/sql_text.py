"""What a piece of SQL is made of, read without running it: enough to refuse what has no place in a fixture."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple

MAX_SQL_CHARS = 20_000
_MAX_NESTING = 100
# Possessive, so that an unclosed quote costs one pass. Unclosed comments end with the text, as in SQLite.
_TOKEN = re.compile(
    r"""(?P<text>'(?:[^']|'')*+'|"(?:[^"]|"")*+"|`(?:[^`]|``)*+`|\[[^\]]*+\])"""
    r"|(?P<skip>\s++|--[^\n]*+|/\*(?s:.*?)(?:\*/|\Z))|(?P<word>[^\W\d]\w*+)|(?P<open>['\"`\[])|(?P<other>.)"
)


class Statement(NamedTuple):
    """The words of one statement outside of quotes, in upper case, each with the depth of its parentheses."""

    words: tuple[tuple[str, int], ...]
    first: str  # its first token: a word, or a character that begins no statement


class BadSql(ValueError):
    """The text is not SQL that may be used; the message says why."""


def statements(sql: str) -> list[Statement]:
    """The statements of `sql`, empty ones left out. Raises `BadSql` for what is too long, too deep or unfinished."""
    if len(sql) > MAX_SQL_CHARS:
        raise BadSql(f"is longer than {MAX_SQL_CHARS} characters")
    found: list[Statement] = []
    words: list[tuple[str, int]] = []
    first, depth = "", 0
    for kind, token in (*_tokens(sql), ("other", ";")):
        if token == ";" and kind == "other":
            if first:
                found.append(Statement(tuple(words), first))
            words, first = [], ""
            continue
        depth += (token == "(") - (token == ")")
        if depth > _MAX_NESTING:
            raise BadSql("is nested too deep")
        if kind == "word":
            words.append((token.upper(), depth))
        first = first or token.upper()
    if depth != 0:
        raise BadSql("has parentheses that do not match")
    return found


def sorts_its_result(query: str) -> bool:
    """Whether a query has an ORDER BY outside of all parentheses."""
    top = [word for statement in statements(query) for word, depth in statement.words if depth == 0]
    return any(pair == ("ORDER", "BY") for pair in itertools.pairwise(top))


def _tokens(sql: str) -> Iterator[tuple[str, str]]:
    for match in _TOKEN.finditer(sql):
        if match.lastgroup == "open" or match[0] == "\0":
            raise BadSql("has a quote that is not closed")
        if match.lastgroup != "skip":
            yield match.lastgroup or "other", match[0]
