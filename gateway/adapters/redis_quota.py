"""Quotas shared by every worker and machine that shares a Redis: one script reserves, one settles."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from gateway.adapters.redis_store import RedisStore
from gateway.tenants.quota import Amount, Decision, Denial, Lease, Limits, decision
from router.errors import CacheUnavailable, QuotaUnavailable

NAMESPACE = "tt:q1:"
_UNLIMITED = -1

# KEYS: the account (a hash), its leases (a sorted set by end). Neither expires, so that a policy that evicts what has
# a time to live, `volatile-lfu`, leaves them. Redis's clock is the one clock; integers stay below 2^53.
_ACCOUNT = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local day = math.floor(now / 86400000000)
local function whole(number) return string.format('%.0f', number) end
local function field(name) return tonumber(redis.call('HGET', KEYS[1], name) or '0') end
"""
_RESERVE = (
    _ACCOUNT
    + """
local id, lease_us = ARGV[1], tonumber(ARGV[2])
local interval, burst, concurrency = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local tokens, token_limit = tonumber(ARGV[6]), tonumber(ARGV[7])
local nanos, nano_limit, leased = tonumber(ARGV[8]), tonumber(ARGV[9]), ARGV[10] == '1'
if field('day') ~= day then redis.call('HSET', KEYS[1], 'day', whole(day), 'tokens', '0', 'nanos', '0') end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', whole(now))
local tat, midnight = field('tat'), (day + 1) * 86400000000 - now
local start = math.max(tat, now)
local wait = start + interval - burst * interval - now
local denial, retry = '', 0
if concurrency >= 0 and redis.call('ZCARD', KEYS[2]) + 1 > concurrency then
  denial, retry = 'concurrency', 1000000
elseif token_limit >= 0 and field('tokens') + tokens > token_limit then
  denial, retry = 'tokens', midnight
elseif nano_limit >= 0 and field('nanos') + nanos > nano_limit then
  denial, retry = 'dollars', midnight
elseif interval > 0 and wait > 0 then
  denial, retry = 'rate', wait
else
  tat = start + interval
  redis.call('HSET', KEYS[1], 'tat', whole(tat))
  redis.call('HINCRBY', KEYS[1], 'tokens', ARGV[6])
  redis.call('HINCRBY', KEYS[1], 'nanos', ARGV[8])
  if leased then redis.call('ZADD', KEYS[2], whole(now + lease_us), id) end
end
return {denial, retry, day, math.max(tat - now, 0), field('tokens'), midnight}
"""
)
_SETTLE = (
    _ACCOUNT
    + """
if redis.call('ZREM', KEYS[2], ARGV[1]) == 1 and field('day') == tonumber(ARGV[2]) then
  redis.call('HINCRBY', KEYS[1], 'tokens', ARGV[3])
  redis.call('HINCRBY', KEYS[1], 'nanos', ARGV[4])
end
return 1
"""
)


class RedisQuota:
    """`gateway.tenants.quota.QuotaStore` on the gateway's Redis connections."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store

    async def reserve(self, tenant: str, limits: Limits, amount: Amount, lease_s: float) -> Decision:
        """Take all that the limits ask for, or nothing."""
        lease_id = uuid4().hex
        reply = await self._run(
            _RESERVE,
            tenant,
            lease_id,
            int(lease_s * 1_000_000),
            limits.interval_us,
            limits.burst,
            _limit(limits.max_concurrency),
            amount.tokens,
            _limit(limits.tokens_per_day),
            amount.nanos,
            _limit(limits.nanos_per_day),
            int(limits.leased),
        )
        denial, retry, day, used_up, tokens, midnight = reply
        outcome = Denial(denial.decode()) if denial else Lease(lease_id, tenant, day, amount)
        return decision(limits, outcome, retry_us=retry, used_up_us=used_up, tokens=tokens, midnight_us=midnight)

    async def settle(self, lease: Lease, used: Amount) -> None:
        """Give the place back and book `used` for what was reserved; again it does nothing."""
        tokens, nanos = used.tokens - lease.reserved.tokens, used.nanos - lease.reserved.nanos
        await self._run(_SETTLE, lease.tenant, lease.id, lease.day, tokens, nanos)

    async def _run(self, script: str, tenant: str, *arguments: str | int) -> Any:
        account = NAMESPACE + "{" + tenant + "}"  # both keys in one slot of a cluster
        try:
            return await self._store.run(script, (account, account + ":leases"), *arguments)
        except CacheUnavailable as error:
            raise QuotaUnavailable(str(error)) from error


def _limit(value: int | None) -> int:
    return _UNLIMITED if value is None else value
