"""Redis: whether it answers, how fast, what it evicts, what survives its restart, and whose clock it has."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from gateway.doctor.clock import compare_clock
from gateway.doctor.finding import Finding, failed, good, warning
from router.settings import Settings

_TIMEOUTS: dict[str, Any] = {"socket_timeout": 5.0, "socket_connect_timeout": 5.0}
_READ = ("maxmemory", "maxmemory-policy", "appendonly")


async def examine_store(settings: Settings) -> AsyncIterator[Finding]:
    """The configured Redis, or what its absence means."""
    section = settings.redis
    if section.url is None:
        detail = f"none: {section.memory_entries} verified answers are kept in each process, and lost with it"
        yield warning("redis", detail, "set [redis] url to share them between processes and restarts")
        return
    try:
        redis = Redis.from_url(section.url, decode_responses=True, **_TIMEOUTS)
    except ValueError:  # its text may hold the password
        yield failed("redis", "the URL is not Redis's", "write [redis] url as redis://host:port/0 (rediss://, unix://)")
        return
    async with redis:
        try:
            async for finding in _examine(redis, settings):
                yield finding
        except (RedisError, OSError) as error:
            yield failed("redis", f"it does not answer as it should: {error}", "start it, or correct [redis] url")


async def _examine(redis: Redis, settings: Settings) -> AsyncIterator[Finding]:
    await redis.ping()
    started = time.perf_counter()
    await redis.ping()
    took_s = time.perf_counter() - started
    if took_s > settings.redis.timeout_s:
        detail = f"a round trip takes {took_s * 1000:.0f} ms, more than the gateway waits"
        yield failed("redis", detail, "bring it nearer, or raise [redis] timeout_s")
    else:
        yield good("redis", f"answers in {took_s * 1000:.1f} ms")
    before = time.time()
    seconds, micros = await redis.time()
    yield compare_clock("redis", seconds + micros / 1e6, before, time.time())
    try:
        config = {str(key): str(value) for each in _READ for key, value in (await redis.config_get(each)).items()}
    except ResponseError as error:  # an ACL, or a managed Redis
        detail = f"its configuration cannot be read ({error})"
        yield warning("redis memory", detail, "see that `maxmemory` is set, `maxmemory-policy` is volatile-lfu")
        return
    yield _eviction(config)
    if any(tenant.tokens_per_day or tenant.usd_per_day for tenant in settings.tenants.values()):
        yield _persistence(config)


def _eviction(config: Mapping[str, str]) -> Finding:
    most, policy = int(config["maxmemory"]), config["maxmemory-policy"]
    cure = "set `maxmemory` and `maxmemory-policy volatile-lfu`: answers may go, what tenants have spent may not"
    if not most:
        return warning("redis memory", "unbounded", cure)
    if policy.startswith("allkeys"):
        return failed("redis memory", f"{policy} may evict what tenants have spent today", cure)
    if policy == "noeviction":
        return warning("redis memory", "noeviction: when it is full no answer is cached", cure)
    return good("redis memory", f"{most // 2**20} MiB, {policy}")


def _persistence(config: Mapping[str, str]) -> Finding:
    if config["appendonly"] == "yes":
        return good("redis persistence", "appendonly")
    detail = "its restart would give every tenant the day's budget anew"
    return warning("redis persistence", detail, "set `appendonly yes`")
