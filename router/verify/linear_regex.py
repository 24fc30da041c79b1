"""RE2 patterns: matched in linear time, bounded memory, nothing logged."""

from __future__ import annotations

import re2

MAX_PATTERN_BYTES = 1024
MAX_MEMORY_BYTES = 8 * 1024 * 1024


class UnsupportedPattern(ValueError):
    """RE2 cannot take the pattern, or it is too long."""


class LinearPattern:
    """A compiled RE2 pattern. Raises `UnsupportedPattern`."""

    def __init__(self, pattern: str) -> None:
        options = re2.Options()
        options.max_mem = MAX_MEMORY_BYTES
        options.log_errors = False
        try:
            if len(pattern.encode()) > MAX_PATTERN_BYTES:
                raise UnsupportedPattern(f"is longer than {MAX_PATTERN_BYTES} bytes")
            self._compiled = re2.compile(pattern, options)
        except (re2.error, UnicodeEncodeError) as error:
            raise UnsupportedPattern("is not a pattern RE2 takes (no look-around, no back-references)") from error

    def fullmatch(self, text: str) -> bool:
        """Whether the pattern matches all of `text`."""
        return self._compiled.fullmatch(text) is not None

    def replace(self, text: str, replacement: str) -> str:
        """`text` with `replacement`, taken literally, for every match. Raises `ValueError` for a lone surrogate."""
        changed: str = self._compiled.sub(lambda _: replacement, text)
        return changed

    def search(self, text: str) -> bool:
        """Whether the pattern matches somewhere in `text`."""
        return self._compiled.search(text) is not None
