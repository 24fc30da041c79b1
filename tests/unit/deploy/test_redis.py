"""What the gateway asks of Redis, as the user that `deploy/redis/credentials` makes, over TLS, in cluster mode.

The server in the wheel has no TLS of its own: a relay with the made certificate stands before it.
"""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from gateway.adapters.redis_quota import NAMESPACE as QUOTAS
from gateway.adapters.redis_quota import RedisQuota
from gateway.adapters.redis_store import RedisStore
from gateway.cache.verified_answers import NAMESPACE as ANSWERS
from gateway.http.idempotency import NAMESPACE as IDEMPOTENCY
from gateway.local.children import free_port
from gateway.redis_server import find_server
from gateway.tenants.quota import Amount, Limits
from router.errors import CacheUnavailable
from router.settings import load_settings
from tests.support.compose import DEPLOY

SCRIPT = DEPLOY / "redis" / "credentials"
OPERATOR = "user operator on nopass ~* +@all\n"  # to give the one node all slots


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("redis") / "secrets"
    subprocess.run([SCRIPT, folder], check=True, timeout=60, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def port(secrets: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A server with these users and no TLS, in cluster mode."""
    folder, port, server = tmp_path_factory.mktemp("server"), free_port(), find_server()
    (folder / "users.acl").write_text((secrets / "users.acl").read_text() + OPERATOR)
    options = ["--aclfile", str(folder / "users.acl"), "--dir", str(folder), "--save", "", "--bind", "127.0.0.1"]
    options += ["--cluster-enabled", "yes", "--cluster-port", str(free_port())]
    assert server is not None
    process = subprocess.Popen([*server, "--port", str(port), *options], stdout=subprocess.DEVNULL)
    try:
        retry = Retry(ConstantBackoff(0.05), 200)
        with redis.Redis(
            port=port, username="operator", password="any", retry=retry, retry_on_error=[redis.ConnectionError]
        ) as operator:
            operator.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            while "cluster_state:ok" not in str(operator.execute_command("CLUSTER", "INFO")):
                pass
        yield port
    finally:
        process.terminate()
        process.wait(10)


@asynccontextmanager
async def connected(secrets: Path, port: int, ca: str = "ca.crt") -> AsyncIterator[RedisStore]:
    """A store by the URL that was made, through TLS to the server at `port`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(secrets / "redis.crt", secrets / "redis.key")

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner, outer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_copy(reader, outer), _copy(inner, writer))

    relays: list[asyncio.Task[None]] = []

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relays.append(asyncio.create_task(relay(reader, writer)))

    async with await asyncio.start_server(accepted, "127.0.0.1", 0, ssl=context) as listening:
        store = RedisStore(_url(secrets, listening.sockets[0].getsockname()[1], ca), timeout_s=5.0)
        try:
            yield store
        finally:
            await store.close()
            async with asyncio.timeout(30):
                await asyncio.gather(*relays)


async def test_every_command_is_allowed_and_keeps_to_one_slot(secrets: Path, port: int) -> None:
    async with connected(secrets, port) as store:
        assert await store.alive()
        for name in (ANSWERS + "a", IDEMPOTENCY + "b"):
            assert await store.add(name, b"1", 60) and await store.get(name) == b"1"
            assert await store.swap(name, b"1", b"2", 60) and await store.swap(name, b"2", None)
            await store.put(name, b"3", 60)
            await store.remove(name)
            assert await store.get(name) is None
        quota, limits = (
            RedisQuota(store),
            Limits(requests_per_minute=600, burst=5, max_concurrency=2, tokens_per_day=100),
        )
        decision = await quota.reserve("acme", limits, Amount(10, 0), 60.0)
        assert decision.lease is not None
        await quota.settle(decision.lease, Amount(4, 0))
        assert (await quota.reserve("acme", limits, Amount(1, 0), 60.0)).tokens_left == 100 - 4 - 1


async def test_nothing_else_is(secrets: Path, port: int) -> None:
    async with connected(secrets, port) as store:
        for script in ("return redis.call('KEYS', '*')", "return redis.call('FLUSHALL')"):
            with pytest.raises(CacheUnavailable, match="ACL"):
                await store.run(script, ())
        with pytest.raises(CacheUnavailable, match=r"[Nn]o permissions"):
            await store.put("another's", b"1", 60)
        assert {ANSWERS[:3], IDEMPOTENCY[:3], QUOTAS[:3]} == {"tt:"}
    with redis.Redis(port=port) as anybody, pytest.raises(redis.AuthenticationError):
        anybody.ping()


async def test_a_server_of_another_ca_is_refused(secrets: Path, port: int, tmp_path: Path) -> None:
    subprocess.run([SCRIPT, tmp_path / "other"], check=True, timeout=60, capture_output=True)
    (secrets / "other.crt").write_bytes((tmp_path / "other" / "ca.crt").read_bytes())
    async with connected(secrets, port, "other.crt") as store:
        with pytest.raises(CacheUnavailable, match="certificate verify failed"):
            await store.get("tt:any")


def test_credentials_are_made_once_and_are_their_owners(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    again = subprocess.run([SCRIPT, secrets], capture_output=True, text=True, timeout=60, check=False)
    assert again.returncode == 1 and "exists already" in again.stderr and again.stderr.count("\n") == 1
    assert secrets.stat().st_mode & 0o777 == 0o700 and (secrets / "gateway.env").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in secrets.parent.iterdir()] == ["secrets"], "the CA's key is gone"
    name, _, url = (secrets / "gateway.env").read_text().strip().partition("=")
    monkeypatch.setenv(name, url)
    assert load_settings().redis.url == url
    password = urlsplit(url).password
    assert password is not None and password not in (secrets / "users.acl").read_text()


def _url(secrets: Path, port: int, ca: str) -> str:
    made = (secrets / "gateway.env").read_text().strip().partition("=")[2]
    assert "@127.0.0.1:6379/" in made and "=/run/redis/ca.crt" in made
    return made.replace(":6379/", f":{port}/").replace("/run/redis/ca.crt", str(secrets / ca))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()
