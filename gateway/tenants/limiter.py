"""The limits of tenants, over a store of quotas that may be down."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from math import ceil

from msgspec import Struct

from gateway.tenants.quota import Amount, Decision, Denial, Lease, Limits, QuotaStore
from router.errors import BudgetExceeded, NotAdmitted, QuotaUnavailable, RateLimited

_MAX_UNSETTLED = 10_000


class Held(Struct, frozen=True):
    """What an admitted request holds, until it is settled, and the headers that tell its client what is left."""

    lease: Lease | None
    store: QuotaStore | None = None
    headers: Mapping[str, str] = {}


UNLIMITED = Held(None)


class Limiter:
    """Reserves and settles. `limits` are those of the tenants that have any.

    While the store is down a budget denies; a rate falls to this process's share of it, counted in `local`.
    """

    def __init__(
        self, limits: Mapping[str, Limits], store: QuotaStore, local: QuotaStore, *, workers: int, lease_s: float
    ) -> None:
        self._limits, self._store, self._local, self._lease_s = limits, store, local, lease_s
        self._shares = {tenant: each.share(workers) for tenant, each in limits.items()}
        self._unsettled: deque[tuple[Lease, Amount]] = deque(maxlen=_MAX_UNSETTLED)

    def of(self, tenant: str) -> Limits | None:
        """The tenant's limits, None when it has none."""
        return self._limits.get(tenant)

    async def reserve(self, tenant: str, amount: Amount) -> Held:
        """Take what the tenant's limits ask for. Raises `RateLimited`, `BudgetExceeded` or `QuotaUnavailable`."""
        limits, store = self._limits[tenant], self._store
        try:
            decision = await store.reserve(tenant, limits, amount, self._lease_s)
        except QuotaUnavailable as error:
            if limits.budgeted:
                raise QuotaUnavailable("the budget cannot be checked now, so nothing may be spent") from error
            limits, store = self._shares[tenant], self._local
            decision = await store.reserve(tenant, limits, amount, self._lease_s)
        headers = _headers(limits, decision)
        if decision.denial is not None:
            raise _denied(limits, decision, amount, headers)
        return Held(decision.lease if limits.leased else None, store, headers)

    async def settle(self, held: Held, used: Amount) -> None:
        """Give back what a request held; kept for `flush` when the store is down."""
        if held.lease is None or held.store is None:
            return
        try:
            await held.store.settle(held.lease, used)
        except QuotaUnavailable:
            self._unsettled.append((held.lease, used))

    async def flush(self) -> None:
        """Settle what could not be settled; stops at the first that still cannot."""
        while self._unsettled:
            try:
                await self._store.settle(*self._unsettled[0])
            except QuotaUnavailable:
                return
            self._unsettled.popleft()


def _denied(limits: Limits, decision: Decision, amount: Amount, headers: Mapping[str, str]) -> NotAdmitted:
    retry_s = ceil(decision.retry_us / 1e6)
    match decision.denial:
        case Denial.RATE:
            message = f"more than {limits.requests_per_minute} requests a minute"
            return RateLimited(f"{message}: try again in {_span(decision.retry_us)}", retry_s, headers)
        case Denial.CONCURRENCY:
            return RateLimited(f"more than {limits.max_concurrency} requests at a time", retry_s, headers)
        case Denial.TOKENS:
            what = f"{decision.tokens_left} of {limits.tokens_per_day} tokens of today's budget are left"
            cure = f"this request may take {amount.tokens}; a lower max_tokens, or fewer samples, reserves less"
            return BudgetExceeded(f"{what}, {cure}", retry_s, headers)
        case _:
            return BudgetExceeded("what is left of today's budget in dollars does not cover this", retry_s, headers)


def _headers(limits: Limits, decision: Decision) -> dict[str, str]:
    """OpenAI's rate limit headers, for the limits there are."""
    headers = {}
    if decision.requests_left is not None:
        headers["x-ratelimit-limit-requests"] = str(limits.burst)
        headers["x-ratelimit-remaining-requests"] = str(decision.requests_left)
        headers["x-ratelimit-reset-requests"] = _span(decision.requests_reset_us)
    if decision.tokens_left is not None:
        headers["x-ratelimit-limit-tokens"] = str(limits.tokens_per_day)
        headers["x-ratelimit-remaining-tokens"] = str(decision.tokens_left)
        headers["x-ratelimit-reset-tokens"] = _span(decision.tokens_reset_us)
    return headers


def _span(microseconds: int) -> str:
    """A time as OpenAI's headers write it: `1h2m3s`, `250ms`."""
    if microseconds < 1_000_000:
        return f"{-(-microseconds // 1000)}ms"
    minutes, seconds = divmod(-(-microseconds // 1_000_000), 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{seconds}s"
