"""What parent and worker say to each other: JSON frames, each behind its length as four big-endian bytes."""

from __future__ import annotations

import struct
from typing import Any

import msgspec

from router.enums import Outcome

MAX_RESULT_BYTES = 64 * 1024
MAX_JOB_BYTES = 4 * 1024 * 1024
HEADER = struct.Struct(">I")


class Task(msgspec.Struct, frozen=True):
    """One check of a job."""

    type: str
    params: dict[str, Any]


class Job(msgspec.Struct, frozen=True):
    """One candidate: its text, and the checks to run on it in this order."""

    number: int
    text: str
    tasks: list[Task]
    cpu_s: float  # processor time after which the kernel ends the worker, whatever became of its parent


class Report(msgspec.Struct, frozen=True):
    """The end of one check."""

    number: int
    index: int
    outcome: Outcome
    score: float | None
    detail: str
    ms: float
    peak_rss_bytes: int
    coverage: float | None = None


class Ready(msgspec.Struct, frozen=True):
    """The worker has imported everything and waits for jobs."""

    ready: bool = True


def frame(message: msgspec.Struct) -> bytes:
    """A message as it goes over the pipe."""
    payload = msgspec.json.encode(message)
    return HEADER.pack(len(payload)) + payload
