"""Bounds of what a request may ask us to check. Everything over them is refused before any work is done."""

from __future__ import annotations

from typing import Any

MAX_CHECKS = 16
MAX_SPEC_BYTES = 128 * 1024
MAX_SPEC_DEPTH = 40  # a schema of the greatest depth allowed, inside a check
MAX_TIMEOUT_S = 10.0
MAX_TEXT_CHARS = 256 * 1024  # of one candidate; a longer one is not judged
MAX_REFERENCE_CHARS = 4096


def too_deep(value: Any, limit: int = MAX_SPEC_DEPTH) -> bool:
    """Whether a JSON value is nested deeper than `limit`, without recursion."""
    level = [value]
    for _ in range(limit + 1):
        level = [child for node in level for child in _children(node)]
        if not level:
            return False
    return True


def _children(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return [child for child in node.values() if isinstance(child, dict | list | tuple)]
    if isinstance(node, list | tuple):
        return [child for child in node if isinstance(child, dict | list | tuple)]
    return []
