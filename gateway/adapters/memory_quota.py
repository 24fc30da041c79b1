"""Quotas of one process: used without Redis, and for rates alone while Redis does not answer."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import uuid4

from gateway.tenants.quota import DAY_US, Amount, Decision, Denial, Lease, Limits, decision, gcra

_CONCURRENCY_RETRY_US = 1_000_000


@dataclass(slots=True)
class _Account:
    tat_us: int = 0
    day: int = 0
    tokens: int = 0
    nanos: int = 0
    leases: dict[str, int] = field(default_factory=dict)  # id to the time it ends


class MemoryQuota:
    """`gateway.tenants.quota.QuotaStore` in this process. `clock` tells Unix time in seconds."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._accounts: defaultdict[str, _Account] = defaultdict(_Account)

    async def reserve(self, tenant: str, limits: Limits, amount: Amount, lease_s: float) -> Decision:
        """Take all that the limits ask for, or nothing."""
        now = int(self._clock() * 1_000_000)
        account = self._accounts[tenant]
        day, until_midnight = now // DAY_US, DAY_US - now % DAY_US
        if account.day != day:
            account.day, account.tokens, account.nanos = day, 0, 0
        account.leases = {id_: end for id_, end in account.leases.items() if end > now}
        tat, wait = gcra(account.tat_us, now, limits.interval_us, limits.burst)
        outcome: Denial | Lease
        if _above(len(account.leases) + 1, limits.max_concurrency):
            outcome, retry = Denial.CONCURRENCY, _CONCURRENCY_RETRY_US
        elif _above(account.tokens + amount.tokens, limits.tokens_per_day):
            outcome, retry = Denial.TOKENS, until_midnight
        elif _above(account.nanos + amount.nanos, limits.nanos_per_day):
            outcome, retry = Denial.DOLLARS, until_midnight
        elif limits.interval_us and wait:
            outcome, retry = Denial.RATE, wait
        else:
            outcome, retry = Lease(uuid4().hex, tenant, day, amount), 0
            account.tat_us = tat
            account.tokens += amount.tokens
            account.nanos += amount.nanos
            if limits.leased:
                account.leases[outcome.id] = now + int(lease_s * 1_000_000)
        used_up = max(account.tat_us - now, 0)
        return decision(
            limits, outcome, retry_us=retry, used_up_us=used_up, tokens=account.tokens, midnight_us=until_midnight
        )

    async def settle(self, lease: Lease, used: Amount) -> None:
        """Give the place back and book `used` for what was reserved; again it does nothing."""
        account = self._accounts[lease.tenant]
        if account.leases.pop(lease.id, None) is not None and account.day == lease.day:
            account.tokens += used.tokens - lease.reserved.tokens
            account.nanos += used.nanos - lease.reserved.nanos


def _above(value: int, limit: int | None) -> bool:
    return limit is not None and value > limit
