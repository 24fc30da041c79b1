"""The shared store in Redis. A request never waits for it longer than its timeout, and never fails with it."""

from __future__ import annotations

import asyncio
from typing import Any

from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from gateway.resilience.breaker import Breaker
from router.errors import CacheUnavailable, ConfigError

# Compare and set; an empty new value deletes. Redis runs a script as one step.
_SWAP = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1
"""


class RedisStore:
    """`router.ports.Store` on a bounded number of connections, without retries, behind a circuit breaker.

    Idle connections wait in a list, the last used on top. redis-py's own pool takes three times the CPU for a `GET`, in
    locks, events and a timeout for each step; here one timeout covers them all.
    """

    def __init__(self, url: str, *, timeout_s: float, breaker: Breaker | None = None, connections: int = 64) -> None:
        """Nothing is sent yet. Raises `ConfigError` for a URL that is not Redis's."""
        self._timeout_s = timeout_s
        self._breaker = breaker or Breaker()
        try:
            self._factory = ConnectionPool.from_url(
                url, socket_timeout=None, socket_connect_timeout=None, retry=Retry(NoBackoff(), 0)
            )
        except ValueError as error:  # its text may hold the password
            raise ConfigError("[redis] url must look like redis://host:port/0 (rediss:// or unix://)") from error
        self._places = asyncio.Semaphore(connections)
        self._idle: list[AbstractConnection] = []

    async def get(self, name: str) -> bytes | None:
        """The value stored under `name`, or None."""
        value: bytes | None = await self._ask("GET", name)
        return value

    async def put(self, name: str, value: bytes, ttl_s: float) -> None:
        """Store a value for `ttl_s` seconds."""
        await self._ask("SET", name, value, "PX", _milliseconds(ttl_s))

    async def add(self, name: str, value: bytes, ttl_s: float) -> bool:
        """Store a value unless there is one; whether it was stored."""
        return bool(await self._ask("SET", name, value, "NX", "PX", _milliseconds(ttl_s)))

    async def swap(self, name: str, old: bytes, new: bytes | None, ttl_s: float = 0.0) -> bool:
        """Replace the value, or with None remove it, if it still is `old`; whether it was."""
        return bool(await self._ask("EVAL", _SWAP, 1, name, old, new or b"", _milliseconds(ttl_s)))

    async def remove(self, name: str) -> None:
        """Remove the value, if there is one."""
        await self._ask("DEL", name)

    async def run(self, script: str, keys: tuple[str, ...], *arguments: str | int) -> Any:
        """The reply of a Lua script, which Redis runs as one step. Raises `CacheUnavailable`."""
        return await self._ask("EVAL", script, len(keys), *keys, *arguments)

    async def alive(self) -> bool:
        """Whether the server answers; not while the breaker is open."""
        try:
            await self._ask("PING")
        except CacheUnavailable:
            return False
        return True

    async def close(self) -> None:
        """Close the connections."""
        while self._idle:
            await self._idle.pop().disconnect()

    async def _ask(self, *words: str | bytes | int) -> Any:
        """The reply to a command. One deadline covers waiting for a connection, connecting, writing and reading.

        A command cut off by it, or by the caller's cancellation, closes its connection: its late reply is nobody's.
        All of these, and a refused log-in, count against the server; an error that it replied with does not.
        """
        if not self._breaker.admits():
            raise CacheUnavailable("Redis: not asked, it has failed too often")
        try:
            async with asyncio.timeout(self._timeout_s):
                reply = await self._exchange(words)
        except ResponseError as error:
            self._breaker.succeeded()
            raise CacheUnavailable(f"Redis: {error}") from error
        except (RedisError, OSError) as error:  # asyncio's TimeoutError is an OSError
            self._breaker.failed()
            raise CacheUnavailable(f"Redis: {error or type(error).__name__}") from error
        self._breaker.succeeded()
        return reply

    async def _exchange(self, words: tuple[str | bytes | int, ...]) -> Any:
        async with self._places:
            connection = self._idle.pop() if self._idle else self._factory.make_connection()  # type: ignore[no-untyped-call]
            whole = False
            try:
                await self._make_ready(connection)
                await connection.send_command(*words)
                try:
                    reply = await connection.read_response()
                finally:
                    whole = connection.is_connected  # an error that was the reply leaves it so
                return reply
            finally:
                if whole:
                    self._idle.append(connection)
                else:
                    await connection.disconnect(nowait=True)

    @staticmethod
    async def _make_ready(connection: AbstractConnection) -> None:
        """Connect it, again where the server has closed it since its last use."""
        if connection.is_connected:
            if not await connection.can_read():
                return
            await connection.disconnect(nowait=True)
        await connection.connect()  # type: ignore[no-untyped-call]


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
