"""The quota port's contract, on the account in memory and on a real Redis server, both by the real clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from itertools import count

import pytest

from gateway.adapters.memory_quota import MemoryQuota
from gateway.adapters.redis_quota import NAMESPACE, RedisQuota
from gateway.adapters.redis_store import RedisStore
from gateway.tenants.quota import DAY_US, NANOS, Amount, Denial, Lease, Limits, QuotaStore
from router.errors import QuotaUnavailable
from tests.support.redis_server import RedisServer

_names = count()


@pytest.fixture(params=["memory", "redis"])
async def quota(request: pytest.FixtureRequest) -> AsyncIterator[QuotaStore]:
    if request.param == "memory":
        yield MemoryQuota()
        return
    store = RedisStore(request.getfixturevalue("server").url, timeout_s=2.0)
    yield RedisQuota(store)
    await store.close()


@pytest.fixture
def tenant() -> str:
    return f"tenant-{next(_names)}"


async def taken(quota: QuotaStore, tenant: str, limits: Limits, tokens: int = 0, nanos: int = 0) -> Lease | Denial:
    decision = await quota.reserve(tenant, limits, Amount(tokens, nanos), 60.0)
    assert (decision.denial is None) == (decision.lease is not None)
    assert (decision.retry_us > 0) == (decision.denial is not None)
    return decision.lease or decision.denial or pytest.fail("neither a lease nor a denial")


async def left(quota: QuotaStore, tenant: str, limits: Limits) -> int:
    """Tokens left of the budget: a reservation of none says."""
    decision = await quota.reserve(tenant, limits, Amount(), 60.0)
    assert decision.tokens_left is not None and decision.lease is not None
    await quota.settle(decision.lease, Amount())
    return decision.tokens_left


async def test_parallel_requests_never_overshoot_a_budget(quota: QuotaStore, tenant: str) -> None:
    limits = Limits(tokens_per_day=10 * 100 + 99)
    got = await asyncio.gather(*(taken(quota, tenant, limits, tokens=100) for _ in range(64)))
    assert sum(isinstance(each, Lease) for each in got) == 10
    assert sum(each is Denial.TOKENS for each in got) == 54
    assert await left(quota, tenant, limits) == 99


async def test_settling_gives_back_what_was_not_used(quota: QuotaStore, tenant: str) -> None:
    limits = Limits(tokens_per_day=1000, nanos_per_day=5 * NANOS)
    lease = await taken(quota, tenant, limits, 900, 4 * NANOS)
    assert isinstance(lease, Lease) and await left(quota, tenant, limits) == 100
    assert await taken(quota, tenant, limits, 101) is Denial.TOKENS
    assert await taken(quota, tenant, limits, 1, NANOS + 1) is Denial.DOLLARS
    await quota.settle(lease, Amount(30, NANOS))
    assert await left(quota, tenant, limits) == 970
    assert isinstance(await taken(quota, tenant, limits, 1, 4 * NANOS), Lease)
    assert await taken(quota, tenant, limits, 1, 1) is Denial.DOLLARS


async def test_settling_twice_counts_once(quota: QuotaStore, tenant: str) -> None:
    limits = Limits(tokens_per_day=1000)
    lease = await taken(quota, tenant, limits, 500)
    assert isinstance(lease, Lease)
    await asyncio.gather(*(quota.settle(lease, Amount(10)) for _ in range(5)))
    assert await left(quota, tenant, limits) == 990


async def test_a_request_may_cost_more_than_it_reserved(quota: QuotaStore, tenant: str) -> None:
    limits = Limits(tokens_per_day=100)
    lease = await taken(quota, tenant, limits, 50)
    assert isinstance(lease, Lease)
    await quota.settle(lease, Amount(150))
    assert await taken(quota, tenant, limits, 0) is Denial.TOKENS  # over the budget, nothing goes on


async def test_a_cache_hit_costs_nothing(quota: QuotaStore, tenant: str) -> None:
    limits = Limits(tokens_per_day=100)
    for _ in range(5):
        lease = await taken(quota, tenant, limits, 100)
        assert isinstance(lease, Lease)
        await quota.settle(lease, Amount())
    assert await left(quota, tenant, limits) == 100


async def test_a_burst_then_one_each_interval(quota: QuotaStore, tenant: str) -> None:
    limits = Limits(requests_per_minute=240, burst=3)  # one each 0.25 s
    got = [await taken(quota, tenant, limits) for _ in range(4)]
    assert [isinstance(each, Lease) for each in got] == [True, True, True, False] and got[3] is Denial.RATE
    denied = await quota.reserve(tenant, limits, Amount(), 60.0)
    assert 0 < denied.retry_us <= 250_000 and denied.requests_left == 0
    assert 500_000 < denied.requests_reset_us <= 750_000
    await asyncio.sleep(denied.retry_us / 1e6 + 0.01)
    assert isinstance(await taken(quota, tenant, limits), Lease)
    assert await taken(quota, tenant, limits) is Denial.RATE


async def test_a_denied_request_takes_nothing(quota: QuotaStore, tenant: str) -> None:
    limits = Limits(requests_per_minute=1, burst=1, tokens_per_day=100, max_concurrency=1)
    assert await taken(quota, tenant, limits, 101) is Denial.TOKENS
    lease = await taken(quota, tenant, limits, 100)  # neither the rate nor the place was taken before
    assert isinstance(lease, Lease)
    assert await taken(quota, tenant, limits) is Denial.CONCURRENCY
    await quota.settle(lease, Amount(7))
    denied = await quota.reserve(tenant, limits, Amount(1), 60.0)
    assert denied.denial is Denial.RATE and denied.tokens_left == 93


async def test_places_are_given_back(quota: QuotaStore, tenant: str) -> None:
    limits = Limits(max_concurrency=2)
    first, second = await taken(quota, tenant, limits), await taken(quota, tenant, limits)
    assert isinstance(first, Lease) and isinstance(second, Lease)
    assert await taken(quota, tenant, limits) is Denial.CONCURRENCY
    await quota.settle(first, Amount())
    assert isinstance(await taken(quota, tenant, limits), Lease)


async def test_a_place_nobody_gave_back_comes_free_and_stays_paid(quota: QuotaStore, tenant: str) -> None:
    limits = Limits(max_concurrency=1, tokens_per_day=100)
    lost = (await quota.reserve(tenant, limits, Amount(40), 0.2)).lease
    assert lost is not None and await taken(quota, tenant, limits) is Denial.CONCURRENCY
    await asyncio.sleep(0.25)
    assert await left(quota, tenant, limits) == 60
    await quota.settle(lost, Amount(1))
    assert await left(quota, tenant, limits) == 60


async def test_tenants_do_not_touch_each_other(quota: QuotaStore, tenant: str) -> None:
    limits = Limits(requests_per_minute=1, burst=1, max_concurrency=1, tokens_per_day=10)
    for name in (tenant, tenant + "-b", tenant + ":leases"):
        assert isinstance(await taken(quota, name, limits, 10), Lease)


async def test_a_lease_of_another_day_changes_nothing_today(quota: QuotaStore, tenant: str) -> None:
    limits = Limits(tokens_per_day=100)
    lease = await taken(quota, tenant, limits, 60)
    assert isinstance(lease, Lease) and lease.day == int(time.time() * 1e6) // DAY_US
    await quota.settle(Lease(lease.id, tenant, lease.day - 1, lease.reserved), Amount(1))
    assert await left(quota, tenant, limits) == 40


async def test_the_day_ends_at_midnight_of_utc(quota: QuotaStore, tenant: str) -> None:
    limits = Limits(tokens_per_day=100)
    await taken(quota, tenant, limits, 100)
    denied = await quota.reserve(tenant, limits, Amount(1), 60.0)
    until_midnight = DAY_US - int(time.time() * 1e6) % DAY_US
    assert abs(denied.retry_us - until_midnight) < 5_000_000 and denied.retry_us == denied.tokens_reset_us


# The shared one alone


async def test_yesterdays_account_is_opened_anew(server: RedisServer) -> None:
    store = RedisStore(server.url, timeout_s=2.0)
    quota, limits = RedisQuota(store), Limits(tokens_per_day=100)
    assert isinstance(await taken(quota, "midnight", limits, 100), Lease)
    server.command("HSET", NAMESPACE + "{midnight}", "day", "1")
    assert isinstance(await taken(quota, "midnight", limits, 100), Lease)
    await store.close()


async def test_two_gateways_share_one_account(server: RedisServer) -> None:
    stores = [RedisStore(server.url, timeout_s=2.0) for _ in range(2)]
    limits = Limits(tokens_per_day=1000, max_concurrency=50)
    quotas = [RedisQuota(store) for store in stores]
    got = await asyncio.gather(*(taken(quotas[i % 2], "shared", limits, 100) for i in range(64)))
    leases = [each for each in got if isinstance(each, Lease)]
    assert len(leases) == 10
    await quotas[1].settle(leases[0], Amount(100))
    assert await left(quotas[0], "shared", limits) == 0
    for store in stores:
        await store.close()


async def test_nothing_in_redis_expires_but_leases_end(server: RedisServer) -> None:
    """An eviction policy for keys with a time to live must not touch what was spent."""
    store = RedisStore(server.url, timeout_s=2.0)
    await taken(RedisQuota(store), "kept", Limits(tokens_per_day=100), 10)
    for name in ("tt:q1:{kept}", "tt:q1:{kept}:leases"):
        assert server.command("TTL", name) == "-1"
    await store.close()


async def test_a_redis_that_does_not_answer() -> None:
    quota = RedisQuota(RedisStore("redis://127.0.0.1:1/0", timeout_s=0.2))
    with pytest.raises(QuotaUnavailable):
        await quota.reserve("nobody", Limits(tokens_per_day=1), Amount(), 1.0)
    with pytest.raises(QuotaUnavailable):
        await quota.settle(Lease("x", "nobody", 0, Amount()), Amount())
