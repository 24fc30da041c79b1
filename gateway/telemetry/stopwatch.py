"""Where a request's time went: in the engine and the verifiers, or in the gateway itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Starts when made. All times are in seconds of the monotonic clock."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._elsewhere = 0.0
        self.first_token_s: float | None = None

    @contextmanager
    def elsewhere(self) -> Iterator[None]:
        """Time spent waiting for the engine or a verifier."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._elsewhere += time.perf_counter() - began

    def first_token(self) -> None:
        """Note the first content sent; later calls change nothing."""
        if self.first_token_s is None:
            self.first_token_s = self.duration_s

    @property
    def duration_s(self) -> float:
        """Time since the start."""
        return time.perf_counter() - self._started

    @property
    def overhead_s(self) -> float:
        """The gateway's own share of the duration."""
        return max(self.duration_s - self._elsewhere, 0.0)
