"""What a run of `gateway_speed.py` measured, as plain values: one entry a round."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.bench.load import Load


@dataclass(frozen=True, slots=True)
class Phase:
    """One gateway driven once. Times in milliseconds; CPU of the whole phase in seconds."""

    answers: int
    failed: int
    events: int
    p50_ms: float
    p99_ms: float
    first_ms: float | None  # median time to the first token
    cpu_s: float
    wall_s: float

    @classmethod
    def of(cls, load: Load, cpu_s: float) -> Phase:
        """What is kept of a load."""
        times = sorted(answer.whole_s * 1000 for answer in load.answers)
        firsts = [answer.first_s * 1000 for answer in load.answers if answer.first_s is not None]
        return cls(
            answers=len(times),
            failed=load.failed,
            events=sum(answer.events for answer in load.answers),
            p50_ms=statistics.median(times),
            p99_ms=times[min(round(0.99 * len(times)), len(times) - 1)],
            first_ms=statistics.median(firsts) if firsts else None,
            cpu_s=cpu_s,
            wall_s=load.wall_s,
        )

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds a request."""
        return self.cpu_s / self.answers * 1000


@dataclass(frozen=True, slots=True)
class Streams:
    """The streams of a round: one after the other, then several at a time."""

    one: Phase
    many: Phase


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident bytes of the serving process, and of it with its children."""

    serving: int
    all: int


@dataclass(frozen=True, slots=True)
class Soak:
    """Resident bytes of the serving process before `requests` requests, and how many more after them."""

    requests: int
    early: int
    grown: int


@dataclass(slots=True)
class Measured:
    """All rounds by gateway."""

    names: Sequence[str]
    alone: dict[str, list[Phase]] = field(init=False)  # concurrency 1
    crowd: dict[str, list[Phase]] = field(init=False)
    streams: dict[str, list[Streams]] = field(init=False)
    memory: dict[str, Memory] = field(default_factory=dict)
    lag_ms: list[float] = field(default_factory=list)
    soak: Soak | None = None

    def __post_init__(self) -> None:
        self.alone = {name: [] for name in self.names}
        self.crowd = {name: [] for name in self.names}
        self.streams = {name: [] for name in self.names}
