"""A circuit breaker: a service that keeps failing is left alone, and asked again with one call at a time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from enum import StrEnum


class BreakerState(StrEnum):
    """Whether calls are made."""

    CLOSED = "closed"  # all of them
    OPEN = "open"  # none
    HALF_OPEN = "half_open"  # one, to see whether the service is back


def _nobody(_: BreakerState) -> None:
    pass


class Breaker:
    """Opens after `failures` failures within `window_s` seconds; open, it admits one probe every `probe_s` seconds.

    With `consecutive` a success starts the count anew: one caller, each of whose requests the service fails, does not
    shut the others out. A probe that succeeds closes it. One that is never reported on, because its caller was
    cancelled, costs a wait of `probe_s` and no more. Pure: the caller reports what happened, `clock` tells the time,
    `on_change` hears of states.
    """

    def __init__(
        self,
        *,
        failures: int = 5,
        window_s: float = 10.0,
        probe_s: float = 5.0,
        consecutive: bool = False,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[BreakerState], None] = _nobody,
    ) -> None:
        self.state = BreakerState.CLOSED
        self._failed_at: deque[float] = deque(maxlen=failures)
        self._window_s, self._probe_s, self._clock, self._on_change = window_s, probe_s, clock, on_change
        self._consecutive = consecutive
        self._probe_at = 0.0

    def admits(self) -> bool:
        """Whether a call may be made now; a call that may is to be reported on."""
        if self.state is BreakerState.CLOSED:
            return True
        now = self._clock()
        if now < self._probe_at:
            return False
        self._probe_at = now + self._probe_s
        self._become(BreakerState.HALF_OPEN)
        return True

    def succeeded(self) -> None:
        """The service answered. What was under way when the breaker opened does not close it."""
        if self.state is BreakerState.HALF_OPEN:
            self._failed_at.clear()
            self._become(BreakerState.CLOSED)
        elif self._consecutive and self.state is BreakerState.CLOSED:
            self._failed_at.clear()

    def failed(self) -> None:
        """The service did not answer."""
        now = self._clock()
        self._failed_at.append(now)
        full = len(self._failed_at) == self._failed_at.maxlen
        if self.state is BreakerState.HALF_OPEN or (
            self.state is BreakerState.CLOSED and full and now - self._failed_at[0] <= self._window_s
        ):
            self._probe_at = now + self._probe_s
            self._become(BreakerState.OPEN)

    def _become(self, state: BreakerState) -> None:
        if state is not self.state:
            self.state = state
            self._on_change(state)
