"""What a request passes before it may draw: its tenant's limits, then a place among those in flight."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from math import ceil

from msgspec import Struct
from starlette.requests import Request

from gateway.answer import Answer
from gateway.cost import cost_usd
from gateway.http.body import until_disconnect
from gateway.tenants.gate import FairGate
from gateway.tenants.limiter import UNLIMITED, Limiter
from gateway.tenants.metering import LARGER, Meter, start_meter, times
from gateway.tenants.quota import NANOS, Amount
from router.domain import Tokens
from router.errors import Overloaded, QuotaUnavailable
from router.settings import PriceSection


class LastWave(Struct, frozen=True):
    """The one completion that a larger model may add, and its price."""

    bound: Callable[[], Tokens]
    price: PriceSection | None


class Asking(Struct, frozen=True):
    """One request that asks to go on: `draws()` completions at most, each of at most `bound()` tokens, at this price.

    Both are asked only of a tenant with a budget. `deadline` is in seconds of the running event loop's clock.
    """

    tenant: str
    draws: Callable[[], int]
    bound: Callable[[], Tokens]
    price: PriceSection | None
    deadline: float
    last: LastWave | None = None


class Admitted(Struct, frozen=True):
    """A request that may draw. `meter` and `larger` count it when its tenant has a budget."""

    headers: Mapping[str, str]
    meter: Meter | None = None
    larger: Meter | None = None

    def count(self, answer: Answer) -> None:
        """Count an answer that comes of a computation shared with another request."""
        if self.meter is not None:
            self.meter.at_least(answer.tokens)
        if self.larger is not None:
            self.larger.at_least(answer.larger)


class Admission:
    """The limiter and the gate, in that order: what is denied never waits."""

    def __init__(self, limiter: Limiter, gate: FairGate) -> None:
        self._limiter, self._gate = limiter, gate

    @asynccontextmanager
    async def admitted(self, request: Request, asking: Asking) -> AsyncIterator[Admitted]:
        """Hold what the request needs while the context is open; then settle for what it drew.

        Without limits and with room at the gate nothing is awaited. Raises `NotAdmitted`, and `ClientGone` when the
        client leaves while its request waits.
        """
        limits = self._limiter.of(asking.tenant)
        held, meter, larger, last = UNLIMITED, None, None, asking.last
        if limits is not None:
            reserved = Amount()
            if limits.budgeted:
                meter = start_meter(asking.bound())
                priced = limits.nanos_per_day is not None
                reserved = _amount(times(meter.bound, asking.draws()), asking.price, priced)
                if last is not None:
                    larger = start_meter(last.bound(), LARGER)
                    reserved += _amount(larger.bound, last.price, priced)
            held = await self._limiter.reserve(asking.tenant, reserved)
        try:
            if not self._gate.try_enter():
                await until_disconnect(request, self._wait(asking))
            try:
                yield Admitted(held.headers, meter, larger)
            finally:
                self._gate.leave()
        finally:
            if held.lease is not None:
                used = Amount() if meter is None else _amount(meter.drawn, asking.price)
                if last is not None and larger is not None:
                    used += _amount(larger.drawn, last.price)
                await self._limiter.settle(held, used)

    @asynccontextmanager
    async def visit(self, request: Request, limit_s: float) -> AsyncIterator[Mapping[str, str]]:
        """`admitted` for a request that draws no token: it counts against rate and concurrency, and costs no budget.

        It waits `limit_s` at most; yields the headers for its answer.
        """
        deadline = asyncio.get_running_loop().time() + limit_s
        asking = Asking(request.state.caller.tenant, lambda: 0, Tokens, PriceSection(input=0, output=0), deadline)
        async with self.admitted(request, asking) as admitted:
            yield admitted.headers

    async def _wait(self, asking: Asking) -> None:
        try:
            async with asyncio.timeout_at(asking.deadline):
                await self._gate.wait(asking.tenant)
        except TimeoutError as error:
            raise Overloaded("the gateway had no room before the request's deadline") from error


def _amount(tokens: Tokens, price: PriceSection | None, priced: bool = False) -> Amount:
    """What tokens cost of a budget. Raises `QuotaUnavailable` where a price is needed and there is none."""
    dollars = cost_usd(tokens, price)
    if dollars is None and priced:
        raise QuotaUnavailable("the budget is in dollars and this model has no price: add [prices.MODEL]")
    return Amount(tokens.prompt + tokens.completion, ceil((dollars or 0.0) * NANOS))
