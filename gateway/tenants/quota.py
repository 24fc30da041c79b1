"""What a tenant may use, and the port behind which it is counted. Pure: values, the rate algorithm, a protocol.

A request reserves, in one step, one place among those in flight, one request of its rate, and the most it can cost of
the day's budgets; afterwards it settles for what it did cost. Days are of UTC.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from msgspec import Struct

from router.errors import ConfigError
from router.settings import TenantSection

DAY_US = 86_400_000_000
MINUTE_US = 60_000_000
NANOS = 1_000_000_000  # of one US dollar: sums of whole nano-dollars do not drift


class Amount(Struct, frozen=True):
    """What a request costs of a budget."""

    tokens: int = 0
    nanos: int = 0  # US dollars * 1e-9

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.tokens + other.tokens, self.nanos + other.nanos)


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one tenant; None is no limit."""

    requests_per_minute: int | None = None
    burst: int = 1
    tokens_per_day: int | None = None
    nanos_per_day: int | None = None
    max_concurrency: int | None = None

    @property
    def budgeted(self) -> bool:
        """Whether what is spent has to be counted."""
        return self.tokens_per_day is not None or self.nanos_per_day is not None

    @property
    def leased(self) -> bool:
        """Whether a request holds something until it has ended."""
        return self.budgeted or self.max_concurrency is not None

    @property
    def interval_us(self) -> int:
        """Microseconds between requests at the full rate, rounded up; 0 without a rate."""
        return -(-MINUTE_US // self.requests_per_minute) if self.requests_per_minute else 0

    def share(self, workers: int) -> Limits:
        """What one of `workers` processes may admit by itself when it cannot ask the others: its share, no burst."""
        rate, concurrency = self.requests_per_minute, self.max_concurrency
        return replace(
            self,
            requests_per_minute=None if rate is None else max(1, rate // workers),
            burst=1,
            max_concurrency=None if concurrency is None else max(1, concurrency // workers),
        )


def limits_of(tenant: str, section: TenantSection) -> Limits | None:
    """A tenant's configured limits, None when there is none. Raises `ConfigError`."""
    rate, dollars = section.requests_per_minute, section.usd_per_day
    if section.burst is not None and rate is None:
        raise ConfigError(f"tenant {tenant}: burst needs requests_per_minute")
    limits = Limits(
        requests_per_minute=rate,
        burst=section.burst or rate or 1,
        tokens_per_day=section.tokens_per_day,
        nanos_per_day=None if dollars is None else round(dollars * NANOS),
        max_concurrency=section.max_concurrency,
    )
    return limits if limits.leased or rate is not None else None


class Denial(StrEnum):
    """Which limit a request met."""

    CONCURRENCY = "concurrency"
    TOKENS = "tokens"
    DOLLARS = "dollars"
    RATE = "rate"


@dataclass(frozen=True, slots=True)
class Lease:
    """What a request holds until it is settled. `day` counts from 1970."""

    id: str
    tenant: str
    day: int
    reserved: Amount


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a request may go on, and what is left then. Without a denial there is a lease."""

    denial: Denial | None
    retry_us: int  # until it can help to ask again; 0 without a denial
    lease: Lease | None
    requests_left: int | None
    requests_reset_us: int  # until the whole burst is there again
    tokens_left: int | None
    tokens_reset_us: int  # until the day ends


def decision(
    limits: Limits, outcome: Denial | Lease, *, retry_us: int, used_up_us: int, tokens: int, midnight_us: int
) -> Decision:
    """The decision of an account that then stands at these values: the rate is used up for `used_up_us` from now."""
    interval, budget = limits.interval_us, limits.tokens_per_day
    return Decision(
        denial=outcome if isinstance(outcome, Denial) else None,
        retry_us=retry_us,
        lease=outcome if isinstance(outcome, Lease) else None,
        requests_left=max(limits.burst - -(-used_up_us // interval), 0) if interval else None,
        requests_reset_us=used_up_us,
        tokens_left=None if budget is None else max(budget - tokens, 0),
        tokens_reset_us=midnight_us,
    )


class QuotaStore(Protocol):
    """Counts what tenants use. Each call is one atomic step for all that share the store."""

    async def reserve(self, tenant: str, limits: Limits, amount: Amount, lease_s: float) -> Decision:
        """Take all that the limits ask for, or nothing. Raises `QuotaUnavailable`.

        A lease that is not settled within `lease_s` seconds gives its place back; what it reserved stays spent.
        """
        ...

    async def settle(self, lease: Lease, used: Amount) -> None:
        """Give the place back and book `used` for what was reserved; again it does nothing.

        Raises `QuotaUnavailable`.
        """
        ...


def gcra(tat_us: int, now_us: int, interval_us: int, burst: int) -> tuple[int, int]:
    """The generic cell rate algorithm (ITU-T I.371, annex A): `burst` requests at once, then one each interval.

    Takes and returns the theoretical arrival time; with it, the microseconds to wait: 0 when the request conforms,
    else the arrival time is as before.
    """
    start = max(tat_us, now_us)
    wait = start + interval_us - burst * interval_us - now_us
    return (start + interval_us, 0) if wait <= 0 else (tat_us, wait)
