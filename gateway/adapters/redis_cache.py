"""The shared answer cache in Redis. A request never waits for it longer than its timeout, and never fails with it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from router.cache_key import key_of
from router.errors import CacheUnavailable, ConfigError, RecordError
from router.records import CachedAnswer, decode_answer, encode

NAMESPACE = "tt:v1:"


class RedisCache:
    """`router.ports.AnswerCache` on one bounded connection pool, without retries. Entries live `ttl_s`, +-10 %."""

    def __init__(self, url: str, *, timeout_s: float, ttl_s: float, connections: int = 64) -> None:
        """Nothing is sent yet. Raises `ConfigError` for a URL that is not Redis's."""
        self.rejected = 0  # values found that do not decode or are not their key's
        self._timeout_s = timeout_s
        self._ttl_s = ttl_s
        try:
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=connections,
                timeout=timeout_s,
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
                retry=Retry(NoBackoff(), 0),
            )
        except ValueError as error:  # its text may hold the password
            raise ConfigError("[redis] url must look like redis://host:port/0 (rediss:// or unix://)") from error
        self._redis = Redis.from_pool(pool)

    async def get(self, key: str) -> CachedAnswer | None:
        """The answer stored under `key`, or None; a value that is damaged or another key's is None and counted."""
        data = await self._bounded(self._redis.get(NAMESPACE + key))
        if data is None:
            return None
        try:
            answer = decode_answer(data)
        except RecordError:
            answer = None
        if answer is None or key_of(answer.key_digest) != key:
            self.rejected += 1
            return None
        return answer

    async def put(self, key: str, answer: CachedAnswer) -> None:
        """Store a verified answer."""
        ttl_ms = max(1, round(self._ttl_s * 1000 * random.uniform(0.9, 1.1)))
        await self._bounded(self._redis.set(NAMESPACE + key, encode(answer), px=ttl_ms))

    async def alive(self) -> bool:
        """Whether the server answers."""
        try:
            await self._bounded(self._redis.ping())
        except CacheUnavailable:
            return False
        return True

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def _bounded(self, command: Awaitable[Any]) -> Any:
        """The command's reply. One deadline covers waiting for a connection, connecting, writing and reading.

        A command cut off by it, or by the caller's cancellation, closes its connection: its late reply is nobody's.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                return await command
        except (RedisError, OSError) as error:  # asyncio's TimeoutError is an OSError
            raise CacheUnavailable(f"Redis: {error or type(error).__name__}") from error
