"""What `thinktwice doctor` says of machines, engines and servers that are well, and of those that are not."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.commands import doctor
from gateway.doctor.clock import compare_clock
from gateway.doctor.engine import examine_engine, examine_larger
from gateway.doctor.finding import Finding, Level
from gateway.doctor.isolation import examine_sandbox
from gateway.doctor.machine import examine_machine
from gateway.doctor.store import examine_store
from router.settings import EscalationSection, Settings, load_settings
from tests.support.mock_engine import MODEL, MockEngine
from tests.support.redis_server import RedisServer


class LikeVllm(MockEngine):
    """A mock engine with the two routes of vLLM that tell how it was started."""

    routes: str = "/v1/load_lora_adapter"
    prefix_cache: str = "True"

    def _app(self) -> web.Application:
        async def openapi(_: web.Request) -> web.Response:
            return web.json_response({"paths": {self.routes: {}}})

        async def metrics(_: web.Request) -> web.Response:
            return web.Response(text=f'vllm:cache_config_info{{enable_prefix_caching="{self.prefix_cache}"}} 1.0\n')

        app = super()._app()
        app.add_routes([web.get("/openapi.json", openapi), web.get("/metrics", metrics)])
        return app


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def engine() -> Iterator[LikeVllm]:
    running = LikeVllm()
    with running:
        yield running


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    server = RedisServer()
    server.start()
    yield server
    server.kill()


def settings(**sections: dict[str, Any]) -> Settings:
    return load_settings(None, sections)


async def by_name(findings: AsyncIterator[Finding]) -> dict[str, Finding]:
    return {finding.name: finding async for finding in findings}


def levels(findings: dict[str, Finding]) -> dict[str, Level]:
    return {name: finding.level for name, finding in findings.items()}


def typed(*words: str) -> int:
    parser = argparse.ArgumentParser()
    doctor.register(parser.add_subparsers())
    args = parser.parse_args(["doctor", *words])
    code: int = args.run(args)
    return code


async def test_an_engine_that_is_well(engine: LikeVllm) -> None:
    found = await by_name(examine_engine(engine.url, settings().backend))
    assert levels(found) == {
        "engine": Level.OK,
        "training rows": Level.OK,
        "policies": Level.OK,
        "prefix cache": Level.OK,
        f"clock of {engine.url}": Level.OK,
    }
    assert MODEL in found["engine"].detail


async def test_how_an_engine_was_started_is_seen(engine: LikeVllm) -> None:
    engine.routes, engine.prefix_cache = "/v1/models", "False"
    found = await by_name(examine_engine(engine.url, settings(backend={"model": "another"}).backend))
    assert found["model"].level is Level.FAILED and MODEL in found["model"].cure
    assert found["policies"].level is Level.WARNING and "--enable-lora" in found["policies"].cure
    assert found["prefix cache"].level is Level.WARNING and "--enable-prefix-caching" in found["prefix cache"].cure


async def test_an_engine_that_says_nothing_of_its_start_and_one_that_is_not_there() -> None:
    with MockEngine() as plain:
        found = await by_name(examine_engine(plain.url, settings().backend))
        assert found["policies"].level is Level.WARNING and "prefix cache" not in found
    found = await by_name(examine_engine(plain.url, settings().backend))
    assert levels(found) == {"engine": Level.FAILED} and "[backend] url" in found["engine"].cure


async def test_redis_that_is_well(redis: RedisServer) -> None:
    redis.command("CONFIG", "SET", "maxmemory", "64mb")
    redis.command("CONFIG", "SET", "maxmemory-policy", "volatile-lfu")
    found = await by_name(examine_store(settings(redis={"url": redis.url, "timeout_s": 2.0})))
    assert levels(found) == {"redis": Level.OK, "clock of redis": Level.OK, "redis memory": Level.OK}
    assert found["redis memory"].detail == "64 MiB, volatile-lfu"


@pytest.mark.parametrize(
    ("most", "policy", "level", "says"),
    [
        ("0", "noeviction", Level.WARNING, "unbounded"),
        ("64mb", "noeviction", Level.WARNING, "no answer is cached"),
        ("64mb", "allkeys-lru", Level.FAILED, "what tenants have spent"),
    ],
)
async def test_what_redis_evicts(redis: RedisServer, most: str, policy: str, level: Level, says: str) -> None:
    redis.command("CONFIG", "SET", "maxmemory", most)
    redis.command("CONFIG", "SET", "maxmemory-policy", policy)
    found = (await by_name(examine_store(settings(redis={"url": redis.url}))))["redis memory"]
    assert found.level is level and says in found.detail and "volatile-lfu" in found.cure


async def test_budgets_want_a_redis_that_remembers(redis: RedisServer) -> None:
    configured = settings(redis={"url": redis.url}, tenants={"acme": {"tokens_per_day": 1000}})
    found = await by_name(examine_store(configured))
    assert found["redis persistence"].level is Level.WARNING
    redis.command("CONFIG", "SET", "appendonly", "yes")
    found = await by_name(examine_store(configured))
    assert found["redis persistence"].level is Level.OK


async def test_a_redis_that_keeps_its_configuration_to_itself(redis: RedisServer) -> None:
    redis.command("ACL", "SETUSER", "default", "-config")
    found = await by_name(examine_store(settings(redis={"url": redis.url})))
    assert found["redis memory"].level is Level.WARNING and "cannot be read" in found["redis memory"].detail


@pytest.mark.parametrize(("model", "level"), [(MODEL, Level.OK), ("another", Level.FAILED)])
async def test_the_larger_model(engine: LikeVllm, model: str, level: Level) -> None:
    assert (await examine_larger(engine.url, EscalationSection(url=engine.url, model=model))).level is level
    gone = "http://127.0.0.1:9"
    assert (await examine_larger(gone, EscalationSection(url=gone, model=model))).level is Level.WARNING


async def test_no_redis_a_wrong_url_and_a_dead_one(redis: RedisServer) -> None:
    assert levels(await by_name(examine_store(settings()))) == {"redis": Level.WARNING}
    wrong = (await by_name(examine_store(settings(redis={"url": "http://user:hunter2@x/0"}))))["redis"]
    assert wrong.level is Level.FAILED and "hunter2" not in wrong.detail + wrong.cure
    redis.kill()
    assert levels(await by_name(examine_store(settings(redis={"url": redis.url})))) == {"redis": Level.FAILED}


def test_the_machine(tmp_path: Path) -> None:
    found = {finding.name: finding for finding in examine_machine(settings())}
    assert found["state directory"].level is not Level.FAILED
    assert not list(tmp_path.rglob(".doctor-*"))
    full = settings(log={"min_free_bytes": 2**60}, server={"workers": 64, "max_inflight": 10**7})
    found = {finding.name: finding for finding in examine_machine(full)}
    assert found["log directory"].level is Level.FAILED and "min_free_bytes" in found["log directory"].cure
    assert found["open files"].level is Level.FAILED and "LimitNOFILE" in found["open files"].cure
    assert found["cores"].level is Level.WARNING
    (tmp_path / "a-file").write_text("")
    blocked = {finding.name: finding for finding in examine_machine(settings(state={"dir": tmp_path / "a-file" / "x"}))}
    assert blocked["state directory"].level is Level.FAILED and "[state] dir" in blocked["state directory"].cure


@pytest.mark.parametrize(
    ("ahead", "level"), [(0.0, Level.OK), (1.5, Level.OK), (3.0, Level.FAILED), (-3.0, Level.FAILED)]
)
def test_clocks(ahead: float, level: Level) -> None:
    now = time.time()
    assert compare_clock("redis", now + ahead, now, now + 0.1).level is level


async def test_the_sandbox() -> None:
    off = await examine_sandbox(settings(sandbox={"backend": "off"}))
    assert off.level is Level.WARNING and "503" in off.detail
    found = await examine_sandbox(settings(sandbox={"backend": "landlock"}))
    assert (found.level, found.detail) == (Level.OK, "landlock holds")


def test_the_command(engine: LikeVllm, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THINKTWICE_BACKEND__URL", engine.url)
    assert typed() == 0
    shown = capsys.readouterr().out
    assert "FAIL" not in shown and "cure: " in shown
    monkeypatch.setenv("THINKTWICE_BACKEND__URL", "http://127.0.0.1:9")
    assert typed("--json") == 1
    told = json.loads(capsys.readouterr().out)
    assert not told["healthy"]
    assert {"name", "level", "detail", "cure"} == told["findings"][0].keys()
    assert [each["name"] for each in told["findings"] if each["level"] == "failed"] == ["engine"]
