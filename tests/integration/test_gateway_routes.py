"""Requests through a real gateway: what goes upstream, what comes back, what is kept, and by how many workers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.local.children import free_port
from router.enums import Purpose, Route
from tests.support.asgi import until
from tests.support.gateway_process import GatewayProcess, get, text_of
from tests.support.mock_engine import MODEL, MockEngine, Script

CANARY = "canary-7c1f"
CONFIG = f"""
[profiles.secret]
version = 3
checks = [{{ type = "exact", reference = "{CANARY}-profile" }}]
[prices."{MODEL}"]
input = 1.0
output = 2.0
"""
SCRIPTS = {
    "mixed": Script(("I think \\boxed{5}", "No, \\boxed{3}", "It is \\boxed{4}")),
    "steady": Script(("It is \\boxed{4}",)),
}
SUM = {"checks": [{"type": "numeric", "reference": 4}]}
UPSTREAM = {
    *("model", "messages", "n", "logprobs", "return_token_ids", "cache_salt", "stream", "stream_options"),
    *("temperature", "top_p", "top_k", "min_p", "max_tokens", "seed", "stop", "response_format"),
}


@pytest.fixture(scope="module")
def engine() -> Iterator[MockEngine]:
    with MockEngine(SCRIPTS) as engine:
        yield engine


@pytest.fixture(scope="module")
def gateway(engine: MockEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with GatewayProcess(tmp_path_factory.mktemp("routes"), engine.url, config=CONFIG) as gateway:
        yield gateway
        assert gateway.stop() == 0
    assert "Traceback" not in gateway.output and CANARY not in gateway.output


def ask(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "champion", "messages": [{"role": "user", "content": text}], **fields}


async def send(gateway: GatewayProcess, body: dict[str, Any], **headers: str) -> tuple[int, str, dict[str, str]]:
    """Status, text and headers of a chat request."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession() as client,
        client.post(f"{gateway.url}/v1/chat/completions", json=body, headers=named) as response,
    ):
        return response.status, await response.text(), dict(response.headers)


async def answer_of(gateway: GatewayProcess, body: dict[str, Any], **headers: str) -> dict[str, Any]:
    status, text, _ = await send(gateway, body, **headers)
    assert status == 200, text
    answer: dict[str, Any] = json.loads(text)
    return answer


async def test_the_three_routes_and_what_they_cost(gateway: GatewayProcess) -> None:
    body = ask("mixed feelings", verification=SUM)
    voted = await answer_of(gateway, body)
    cached = await answer_of(gateway, body)
    single = await answer_of(gateway, ask("steady"))
    assert [a["verification"]["route"] for a in (voted, cached, single)] == ["vote", "cache", "single"]
    tokens = voted["usage"]
    assert tokens["completion_tokens"] >= sum(map(len, SCRIPTS["mixed"].answers))
    assert voted["verification"]["cost_usd"] == pytest.approx(
        (tokens["prompt_tokens"] + 2 * tokens["completion_tokens"]) / 1e6
    )
    assert cached["usage"]["total_tokens"] == 0 and cached["verification"]["cost_usd"] == 0
    assert cached["verification"]["group_id"] == voted["verification"]["group_id"]
    assert cached["choices"][0]["message"]["content"] == "It is \\boxed{4}"
    assert not (await answer_of(gateway, body, Cache_Control="No-Store"))["verification"]["cached"]


async def test_every_answered_group_is_in_the_log_once(gateway: GatewayProcess) -> None:
    answers = await asyncio.gather(*(answer_of(gateway, ask(f"mixed {i}", verification=SUM)) for i in range(20)))
    ids = {answer["verification"]["group_id"] for answer in answers}
    await until(lambda: ids <= {group.group_id for group in gateway.groups()})
    logged = [group for group in gateway.groups() if group.group_id in ids]
    assert len(logged) == len(ids) == 20
    for group in logged:
        assert group.route is Route.VOTE and group.escalated and group.base_model == MODEL
        assert [sample.index for sample in group.samples] == list(range(len(group.samples)))
        assert len(group.samples) >= 2
        assert sum(sample.selected for sample in group.samples) == 1
        assert all(s.completion_token_ids and s.behavior_logprobs for s in group.samples if not s.censored)


async def test_an_evaluation_is_marked(gateway: GatewayProcess) -> None:
    before = get(f"{gateway.url}/v1/scorecard")[1]["requests"]["answered"]
    answer = await answer_of(gateway, ask("steady", verification=SUM), X_Thinktwice_Purpose="eval")
    group_id = answer["verification"]["group_id"]
    await until(lambda: group_id in {group.group_id for group in gateway.groups()})
    [group] = [group for group in gateway.groups() if group.group_id == group_id]
    assert group.purpose is Purpose.EVAL
    assert get(f"{gateway.url}/v1/scorecard")[1]["requests"]["answered"] == before


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("effort", ["low", "medium", "high"])
@pytest.mark.parametrize("on_failure", ["return", "refuse", "error"])
async def test_references_reach_no_one(
    gateway: GatewayProcess, engine: MockEngine, stream: bool, effort: str, on_failure: str
) -> None:
    checks = [
        {"type": "exact", "reference": f"{CANARY}-exact", "id": "mine"},
        {"type": "regex", "pattern": f"{CANARY}-regex", "required": False},
        {"type": "json_schema", "schema": {"const": f"{CANARY}-schema"}, "required": False},
    ]
    verification = {"profile": "secret@3", "checks": checks, "on_failure": on_failure}
    body = ask(f"mixed {effort} {stream} {on_failure}", stream=stream, reasoning_effort=effort)
    _, text, headers = await send(gateway, body | {"verification": verification})
    assert "secret@3" in text and CANARY not in text and CANARY not in str(headers)
    sent = engine.chats(f"mixed {effort} {stream} {on_failure}")
    assert sent and CANARY not in json.dumps(engine.requests)
    for upstream in sent:
        assert upstream.keys() <= UPSTREAM and upstream["messages"] == body["messages"]
        assert upstream["model"] == MODEL and upstream["return_token_ids"] and upstream["cache_salt"]


async def test_bad_references_are_not_repeated_in_errors(gateway: GatewayProcess) -> None:
    for check in (
        {"type": "numeric", "reference": f"{CANARY}-number"},
        {"type": "choice", "reference": f"{CANARY}-choice", "options": ["a", "b"]},
        {"type": "regex", "pattern": f"({CANARY}-open"},
    ):
        status, text, _ = await send(gateway, ask("steady", verification={"checks": [check]}))
        assert status == 400 and CANARY not in text, text


async def test_references_are_in_no_metric_and_no_scorecard(gateway: GatewayProcess) -> None:
    for path in ("/metrics", "/v1/scorecard", "/readyz", "/v1/models"):
        assert CANARY not in await asyncio.to_thread(text_of, gateway.url + path)
    assert any(CANARY in str(group.verification) for group in gateway.groups())  # the log alone keeps them


async def test_the_models_a_request_may_name(gateway: GatewayProcess) -> None:
    for model in (MODEL, "champion"):
        assert (await answer_of(gateway, ask("steady") | {"model": model}))["model"] == model
    assert [card["id"] for card in get(f"{gateway.url}/v1/models")[1]["data"]] == [MODEL, "champion"]


def answers_counted(port: int) -> float:
    """The chat answers that the worker of this port has given."""
    lines = text_of(f"http://127.0.0.1:{port}/metrics").splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("thinktwice_answers_total{"))


async def test_two_workers_serve_one_port_and_keep_a_log_each(tmp_path: Path, engine: MockEngine) -> None:
    own = free_port()
    env = {"THINKTWICE_SERVER__METRICS_PORT": str(own)}
    with GatewayProcess(tmp_path, engine.url, env=env, args=["--workers", "2"]) as gateway:
        ids: set[str] = set()

        async def one(number: int) -> None:
            answer = await answer_of(gateway, ask(f"steady {number}"))
            ids.add(answer["verification"]["group_id"])

        workers: set[str] = set()
        while len(workers) < 2:  # the kernel chooses the worker of each connection
            assert len(ids) < 400
            await asyncio.gather(*(one(len(ids) + offset) for offset in range(20)))
            workers = {path.parent.name for path in tmp_path.glob("log/*/*.open") if path.stat().st_size > 1000}
        counted = [answers_counted(own + number) for number in (0, 1)]
        assert min(counted) > 0 and sum(counted) == len(ids)
        assert gateway.stop() == 0
    assert workers == {"w0", "w1"} and "Traceback" not in gateway.output, gateway.output
    assert sorted(group.group_id for group in gateway.groups()) == sorted(ids)
    assert list(tmp_path.glob("log/*/*.open")) == []


async def test_a_stop_is_not_lost_while_the_server_starts(tmp_path: Path, engine: MockEngine) -> None:
    for attempt in range(3):
        gateway = GatewayProcess(tmp_path / str(attempt), engine.url)
        gateway.launch()
        await until(lambda gateway=gateway: "gateway.watcher" in gateway.output)  # the last line before it serves
        assert await asyncio.to_thread(gateway.stop) == 0, gateway.output


async def test_workers_do_not_outlive_their_supervisor(tmp_path: Path, engine: MockEngine) -> None:
    with GatewayProcess(tmp_path, engine.url, args=["--workers", "2"]) as gateway:
        port = gateway.port
        answer = await answer_of(gateway, ask("steady"))
        gateway.kill()

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    await until(lambda: not listens())
    await until(lambda: list(tmp_path.glob("log/*/*.open")) == [])  # the log was closed in good order
    assert [group.group_id for group in gateway.groups()] == [answer["verification"]["group_id"]]


async def test_a_killed_worker_gets_a_successor_and_is_reported(tmp_path: Path, engine: MockEngine) -> None:
    with GatewayProcess(tmp_path, engine.url, args=["--workers", "2"]) as gateway:
        answer = await answer_of(gateway, ask("steady"))

        def serving() -> set[str]:
            found = set()
            for pid in Path(f"/proc/{gateway.pid}/task/{gateway.pid}/children").read_text().split():
                with suppress(FileNotFoundError):
                    if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                        found.add(pid)
            return found

        await until(lambda: "2 processes serve port" in gateway.output)  # before that the end of one is the end of all
        await until(lambda: len(gateway.groups()) == 1)  # on disk: what a killed process still had to write is lost
        first = serving()
        assert len(first) == 2
        killed = min(first)
        os.kill(int(killed), signal.SIGKILL)
        await until(lambda: len(serving() - {killed}) == 2, 60)
        await asyncio.to_thread(gateway.wait_for, "/readyz", 200)
        answers = [answer, await answer_of(gateway, ask("steady again"))]
        assert gateway.stop() == 0
    assert gateway.output.count("ended (exit code -9): another starts") == 1, gateway.output
    assert {group.group_id for group in gateway.groups()} == {each["verification"]["group_id"] for each in answers}
