"""A graceful stop: new requests are refused, those that run are waited for, up to a limit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Drain:
    """Counts the requests being served and says when a stop that has begun may go on, after `limit_s` at the latest."""

    def __init__(self, limit_s: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit_s, self._clock = limit_s, clock
        self._running = 0
        self._until: float | None = None

    @property
    def begun(self) -> bool:
        """Whether the gateway stops: it takes no further request."""
        return self._until is not None

    @property
    def over(self) -> bool:
        """Whether nothing runs any more, or has had its time."""
        return self._until is not None and (self._running == 0 or self._clock() >= self._until)

    def begin(self) -> None:
        """Stop taking requests."""
        if self._until is None:
            self._until = self._clock() + self._limit_s

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Count a request while the context is open."""
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
