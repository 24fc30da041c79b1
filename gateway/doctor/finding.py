"""What an examination finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How much a finding matters: `WARNING` serves with less than it could, `FAILED` does not do what is configured."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at, in one line, and what to do about it."""

    name: str
    level: Level
    detail: str
    cure: str = ""


def good(name: str, detail: str) -> Finding:
    """Nothing to do."""
    return Finding(name, Level.OK, detail)


def warning(name: str, detail: str, cure: str) -> Finding:
    """It works with less than it could."""
    return Finding(name, Level.WARNING, detail, cure)


def failed(name: str, detail: str, cure: str) -> Finding:
    """It does not work as configured."""
    return Finding(name, Level.FAILED, detail, cure)
