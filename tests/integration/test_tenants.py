"""Keys and limits over HTTP: real processes, two workers on one Redis, a Redis that is killed in the middle."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from gateway.tenants.key_file import KeyFile
from gateway.tenants.keys import Role
from gateway.tenants.metering import draw_bound
from router.domain import EngineInfo, Prompt, Sampling
from tests.support.gateway_process import GatewayProcess
from tests.support.mock_engine import MockEngine, Script
from tests.support.redis_server import RedisServer

ENGINE = EngineInfo("mock", "1", (), True, "processed_logprobs", max_model_len=4096)
MAX_TOKENS = 100


@pytest.fixture
def engine() -> Iterator[MockEngine]:
    with MockEngine({"slow": Script(("It is \\boxed{4}",), delay_s=1.0)}) as engine:
        yield engine


def key_of(home: Path, tenant: str, role: Role = Role.USER) -> str:
    """A new key in the state directory of a gateway at `home`."""
    return KeyFile(home / "state").create(tenant, role)[0]


def message(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def reserved(text: str, samples: int = 1) -> int:
    """Tokens that a request with this text reserves."""
    bound = draw_bound(Prompt((message(text),), {}, Sampling(max_tokens=MAX_TOKENS)), ENGINE, grows=False)
    return samples * (bound.prompt + bound.completion)


class Client:
    """Asks one gateway with one key; every request over a connection of its own, so that all workers are asked."""

    def __init__(self, gateway: GatewayProcess, key: str | None) -> None:
        self._url = gateway.url
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True))

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def ask(self, text: str, **fields: Any) -> tuple[int, dict[str, Any], dict[str, str]]:
        """Status, body and headers of a chat request."""
        body = {"model": "champion", "messages": [message(text)], "max_tokens": MAX_TOKENS, **fields}
        url = f"{self._url}/v1/chat/completions"
        async with self._session.post(url, json=body, headers=self._headers) as response:
            return response.status, await response.json(), {k.lower(): v for k, v in response.headers.items()}


async def test_two_workers_hold_one_budget(tmp_path: Path, engine: MockEngine, redis: RedisServer) -> None:
    """64 requests at once, over both workers, against a budget for ten."""
    budget = 10 * reserved("slow 00") + 5
    config = f"[tenants.acme]\ntokens_per_day = {budget}\n"
    key = key_of(tmp_path, "acme")
    env = {"THINKTWICE_REDIS__URL": redis.url, "THINKTWICE_REDIS__TIMEOUT_S": "2"}
    with GatewayProcess(tmp_path, engine.url, config, env, args=("--workers", "2")) as gateway:
        await asyncio.to_thread(gateway.wait_for, "/readyz", 200)
        async with Client(gateway, key) as client:
            answers = await asyncio.gather(*(client.ask(f"slow {i:02}") for i in range(64)))
            assert sorted(status for status, _, _ in answers) == [200] * 10 + [429] * 54
            assert len(engine.chats("slow")) == 10
            used = sum(body["usage"]["total_tokens"] for status, body, _ in answers if status == 200)
            status, _, headers = await client.ask("once more")
            assert status == 200
            assert int(headers["x-ratelimit-remaining-tokens"]) == budget - used - reserved("once more")


async def test_redis_is_killed_in_the_middle(tmp_path: Path, engine: MockEngine, redis: RedisServer) -> None:
    config = "[tenants.budget]\ntokens_per_day = 1000000\n[tenants.rate]\nrequests_per_minute = 6000\nburst = 100\n"
    keys = {tenant: key_of(tmp_path, tenant) for tenant in ("budget", "rate", "free")}
    env = {"THINKTWICE_REDIS__URL": redis.url}
    with GatewayProcess(tmp_path, engine.url, config, env, args=("--workers", "2")) as gateway:
        await asyncio.to_thread(gateway.wait_for, "/readyz", 200)
        async with Client(gateway, keys["budget"]) as budget, Client(gateway, keys["rate"]) as rate:
            under_way = asyncio.create_task(budget.ask("slow one"))
            async with asyncio.timeout(10):
                while not engine.chats("slow one"):
                    await asyncio.sleep(0.01)
            await asyncio.to_thread(redis.kill)
            status, body, headers = await budget.ask("no budget")
            assert status == 503 and body["error"]["code"] == "quota_unavailable" and int(headers["retry-after"]) > 0
            assert engine.chats("no budget") == []
            statuses = [status for status, _, _ in await asyncio.gather(*(rate.ask("rate") for _ in range(40)))]
            assert statuses.count(200) >= 1 and 429 in statuses and set(statuses) == {200, 429}
            async with Client(gateway, keys["free"]) as free:
                assert (await free.ask("no limits"))[0] == 200
            assert (await under_way)[0] == 200  # what was admitted is answered
            await asyncio.to_thread(redis.start)
            async with asyncio.timeout(20):
                while (await budget.ask("again"))[0] != 200:
                    await asyncio.sleep(0.2)
            assert [status for status, _, _ in await asyncio.gather(*(rate.ask("rate") for _ in range(20)))].count(200)


async def test_a_client_that_leaves_gives_its_budget_back(tmp_path: Path, engine: MockEngine) -> None:
    config = f"[tenants.local]\ntokens_per_day = {reserved('slow one') + 200}\nmax_concurrency = 1\n"
    with GatewayProcess(tmp_path, engine.url, config) as gateway:
        await asyncio.to_thread(gateway.wait_for, "/readyz", 200)
        async with Client(gateway, None) as client:
            leaving = asyncio.create_task(client.ask("slow one", stream=True))
            async with asyncio.timeout(10):
                while not engine.chats("slow one"):
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)
            assert (await client.ask("slow two"))[0] == 429
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
            async with asyncio.timeout(10):
                while (await client.ask("quick"))[0] != 200:
                    await asyncio.sleep(0.05)
            assert engine.running == 0


def test_with_a_key_it_binds_any_address_and_follows_the_keys(tmp_path: Path, engine: MockEngine) -> None:
    key = key_of(tmp_path, "acme")
    with GatewayProcess(tmp_path, engine.url, args=("--host", "0.0.0.0")) as gateway:
        gateway.wait_for("/readyz", 200)
        assert "no API keys" not in gateway.output
        with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0) as client:
            assert client.models.list().data
            with pytest.raises(openai.PermissionDeniedError, match="role admin"):
                client.chat.completions.create(
                    model="champion",
                    messages=[{"role": "user", "content": "x"}],
                    extra_headers={"X-Thinktwice-Purpose": "eval"},
                )
        with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="unused", max_retries=0) as stranger:
            with pytest.raises(openai.AuthenticationError):
                stranger.models.list()
            later = key_of(tmp_path, "later")
            assert _within(3.0, later, gateway)
        KeyFile(tmp_path / "state").revoke(KeyFile(tmp_path / "state").stored()[1].id)
        deadline = time.monotonic() + 3.0
        while _opens(later, gateway):
            assert time.monotonic() < deadline, "the revoked key still opens"
            time.sleep(0.05)
        assert _opens(key, gateway)


def test_without_keys_it_says_so(tmp_path: Path, engine: MockEngine) -> None:
    with GatewayProcess(tmp_path, engine.url) as gateway:
        assert "no API keys: loopback only" in gateway.output and "thinktwice keys create" in gateway.output


@pytest.mark.parametrize(
    "head",
    [
        "GET /v1/models HTTP/1.1\r\nHost: /healthz?",
        "GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1/healthz?x=",
        "GET http://127.0.0.1/v1/models HTTP/1.1\r\nHost: 127.0.0.1",
        "GET /v1/models?/healthz HTTP/1.1\r\nHost: 127.0.0.1",
        "GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Original-URL: /healthz",
    ],
)
def test_no_written_head_gets_past(gated: GatewayProcess, head: str) -> None:
    with socket.create_connection(("127.0.0.1", gated.port), timeout=10) as connection:
        connection.sendall(f"{head}\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.split(b" ", 2)[1] in (b"400", b"401", b"404") and b"champion" not in answer


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    home = tmp_path_factory.mktemp("gated")
    key_of(home, "acme")
    with MockEngine() as engine, GatewayProcess(home, engine.url) as gateway:
        gateway.wait_for("/readyz", 200)
        yield gateway


def _opens(key: str, gateway: GatewayProcess) -> bool:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0) as client:
        try:
            client.models.list()
        except openai.AuthenticationError:
            return False
        return True


def _within(seconds: float, key: str, gateway: GatewayProcess) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if _opens(key, gateway):
            return True
        time.sleep(0.05)
    return False
