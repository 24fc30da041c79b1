"""Two gateways and two engines on one machine: one budget, one cache, one champion, one log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.tenants.key_file import KeyFile
from gateway.tenants.keys import Role
from router.registry import PolicyRegistry
from tests.support.gateway_process import GatewayProcess
from tests.support.mock_engine import MockEngine, Script
from tests.support.redis_server import RedisServer

CHECKED = {"verification": {"checks": [{"type": "numeric", "reference": 4}]}}
CONFIG = "[tenants.acme]\nrequests_per_minute = 1\nburst = 6\n"


@dataclass(frozen=True, slots=True)
class Site:
    """What the tests see of the whole; `gateways` share a state directory, a log directory and a Redis."""

    home: Path
    gateways: tuple[GatewayProcess, GatewayProcess]
    engines: tuple[MockEngine, MockEngine]
    client: aiohttp.ClientSession

    async def ask(self, at: int, key: str, text: str, **fields: Any) -> tuple[int, dict[str, Any]]:
        body = {"model": "champion", "messages": [{"role": "user", "content": text}], **fields}
        headers = {"Authorization": f"Bearer {key}"}
        async with self.client.post(
            f"{self.gateways[at].url}/v1/chat/completions", json=body, headers=headers
        ) as response:
            return response.status, await response.json()

    def chats(self, text: str) -> list[int]:
        return [len(engine.chats(text)) for engine in self.engines]


@pytest.fixture
async def site(tmp_path: Path, redis: RedisServer) -> AsyncIterator[Site]:
    script = Script(("It is \\boxed{4}",))
    env = {"THINKTWICE_REDIS__URL": redis.url, "THINKTWICE_REDIS__TIMEOUT_S": "2"}
    KeyFile(tmp_path / "state").create("first", Role.USER)  # so that both start with the same pepper
    with ExitStack() as stack:
        engines = (stack.enter_context(MockEngine(default=script)), stack.enter_context(MockEngine(default=script)))
        urls = f"{engines[0].url},{engines[1].url}"
        gateways = (GatewayProcess(tmp_path, urls, CONFIG, env), GatewayProcess(tmp_path, urls, CONFIG, env))
        for gateway in gateways:  # both start at once
            stack.callback(gateway.stop)
            gateway.launch()
        for gateway in gateways:
            await asyncio.to_thread(gateway.wait_for, "/readyz", 200)
        async with AsyncExitStack() as closing:
            client = await closing.enter_async_context(aiohttp.ClientSession())
            yield Site(tmp_path, gateways, engines, client)


async def test_two_gateways_are_one(site: Site) -> None:
    keys = KeyFile(site.home / "state")
    limited, free = keys.create("acme", Role.USER)[0], keys.create("free", Role.USER)[0]
    async with asyncio.timeout(10):
        while 401 in [(await site.ask(at, free, "known?"))[0] for at in (0, 1)]:
            await asyncio.sleep(0.1)

    asked = [site.ask(number % 2, limited, f"limited {number}") for number in range(20)]
    statuses = [status for status, _ in await asyncio.gather(*asked)]
    assert sorted(statuses) == [200] * 6 + [429] * 14 and sum(site.chats("limited")) == 6

    first = (await site.ask(0, free, "verified once", **CHECKED))[1]["verification"]
    again = (await site.ask(1, free, "verified once", **CHECKED))[1]["verification"]
    assert (first["status"], first["cached"]) == ("verified", False)
    assert (again["status"], again["cached"], again["group_id"]) == ("verified", True, first["group_id"])
    assert sum(site.chats("verified once")) == 1

    for number in range(16):
        assert (await site.ask(number % 2, free, f"spread {number}"))[0] == 200
    assert min(site.chats("spread")) > 0

    name = promoted(site.home)
    async with asyncio.timeout(10):
        while {await policy_of(site, at, free) for at in (0, 1)} != {name}:
            await asyncio.sleep(0.1)
    assert all(name in engine.adapters for engine in site.engines)
    after = (await site.ask(1, free, "verified once", **CHECKED))[1]["verification"]
    assert (after["cached"], after["policy"]) == (False, name)

    assert [gateway.stop() for gateway in site.gateways] == [0, 0]
    groups = [group.group_id for group in site.gateways[0].groups()]
    assert {path.name for path in (site.home / "log").glob("w*")} == {"w0", "w1"}
    assert len(groups) == len(set(groups)) == sum(site.chats("")) - probes(site)
    assert all(list((site.home / "log" / worker).glob("*.sealed")) for worker in ("w0", "w1"))


def promoted(home: Path) -> str:
    """A policy of its own, promoted as `thinktwice promote --untried` does it."""
    adapter = home / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    registry = PolicyRegistry(home / "state")
    name = registry.register(adapter, {"base_model": "mock-model"})
    registry.promote(name, "test", "test")
    return name


async def policy_of(site: Site, at: int, key: str) -> str:
    return str((await site.ask(at, key, "which policy"))[1]["verification"]["policy"])


def probes(site: Site) -> int:
    """Requests of the gateways' own, which carry no salt of a tenant."""
    return sum("cache_salt" not in body for engine in site.engines for body in engine.chats())
