"""Whether one engine of several is used."""

from __future__ import annotations

from enum import StrEnum


class ReplicaState(StrEnum):
    """Whether an engine is used."""

    UP = "up"
    OPEN = "open"  # its breaker is: it answers its health check and fails requests
    UNFIT = "unfit"  # it answers, and is not like the others or not yet known
    DOWN = "down"
