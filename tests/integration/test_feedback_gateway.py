"""Feedback, reviews and groups over real processes: two workers, SIGKILL at the worst moments, one truth on disk."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from router.ids import new_group_id
from router.log.labels import read_labels
from tests.support.gateway_process import GatewayProcess, get
from tests.support.groups import group
from tests.support.mock_engine import MockEngine
from tests.support.training_log import write_log

CHECKED = {"checks": [{"type": "numeric", "reference": 4}]}
REVIEWED = '[profiles.careful]\nreview = "always"\n'


@pytest.fixture
def engine() -> Iterator[MockEngine]:
    with MockEngine() as engine:
        yield engine


class Client:
    """Every request over a connection of its own, so that all workers are asked."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._url = gateway.url
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True))

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def post(self, path: str, body: Any) -> tuple[int, dict[str, Any]]:
        async with self._session.post(self._url + path, json=body) as response:
            return response.status, await response.json()

    async def get(self, path: str) -> dict[str, Any]:
        async with self._session.get(self._url + path) as response:
            assert response.status == 200, await response.text()
            body: dict[str, Any] = await response.json()
            return body

    async def ask(self, text: str, **fields: Any) -> str:
        """A chat's group."""
        body = {"model": "champion", "messages": [{"role": "user", "content": text}], **fields}
        status, answer = await self.post("/v1/chat/completions", body)
        assert status == 200, answer
        return str(answer["verification"]["group_id"])


async def test_two_workers_and_one_queue(tmp_path: Path, engine: MockEngine) -> None:
    with GatewayProcess(tmp_path, engine.url, REVIEWED, args=("--workers", "2")) as gateway:
        await asyncio.to_thread(gateway.wait_for, "/readyz", 200)
        async with Client(gateway) as client:
            asked = [client.ask(f"2 + 2, the {number}th time?", verification=CHECKED) for number in range(8)]
            groups = await asyncio.gather(*asked)
            careful = await client.ask("a story", verification={"profile": "careful@1"})
            said = [{"group_id": name, "outcome": "not_solved" if name in groups[:3] else "solved"} for name in groups]
            answers = await asyncio.gather(*(client.post("/v1/feedback", body) for body in said))
            assert {status for status, _ in answers} == {200}
            await asyncio.sleep(0.2)  # the group commit
            lists = await asyncio.gather(*(client.get("/v1/groups?limit=100") for _ in range(6)))
            for each in lists:
                assert [row["id"] for row in each["data"]] == sorted([*groups, careful], reverse=True)
            assert len(list(gateway.log_dir.glob("w*"))) == 2  # both workers wrote
            for name in groups:
                shown = await client.get(f"/v1/groups/{name}")
                assert (shown["status"], len(shown["labels"])) == ("verified", 1) and shown["samples"]
            queue = await client.get("/v1/reviews")
            assert {row["id"]: row["why"] for row in queue["data"]} == {
                **{name: ["disputed"] for name in groups[:3]},
                careful: ["profile"],
            }
            for row in queue["data"]:
                assert (await client.post(f"/v1/reviews/{row['id']}", {"verdict": "accept"}))[0] == 200
            assert (await client.get("/v1/reviews"))["data"] == []
        assert gateway.stop() == 0
    assert "Traceback" not in gateway.output, gateway.output


async def test_a_worker_is_killed_while_feedback_comes(tmp_path: Path, engine: MockEngine) -> None:
    """What was acknowledged is there, once; what was not is there once or not at all."""
    acknowledged: list[str] = []
    sent = [new_group_id() for _ in range(400)]
    with GatewayProcess(tmp_path, engine.url, args=("--workers", "2")) as gateway:
        await asyncio.to_thread(gateway.wait_for, "/readyz", 200)

        async def say(client: Client, name: str) -> None:
            try:
                status, _ = await client.post("/v1/feedback", {"group_id": name, "score": 1, "note": "x" * 2000})
            except (aiohttp.ClientError, OSError):
                return
            if status == 200:
                acknowledged.append(name)
            if len(acknowledged) == 40:
                os.kill(children(gateway.pid)[-1], signal.SIGKILL)

        async with Client(gateway) as client:
            for start in range(0, len(sent), 20):
                await asyncio.gather(*(say(client, name) for name in sent[start : start + 20]))
        assert gateway.stop() == 0
    kept = [label.group_id for _, label in read_labels(gateway.log_dir) if label is not None]
    assert len(acknowledged) >= 40
    assert len(kept) == len(set(kept)) and set(acknowledged) <= set(kept) <= set(sent)


def test_a_kill_between_a_label_and_the_next_read_of_the_index(tmp_path: Path, engine: MockEngine) -> None:
    name = new_group_id()
    write_log(tmp_path / "log", [group(name)])
    gateway = GatewayProcess(tmp_path, engine.url)
    with gateway:
        assert len(get(f"{gateway.url}/v1/groups")[1]["data"]) == 1  # the index is there
        asyncio.run(_say_not_solved(gateway, name))
        gateway.kill()
    with gateway:
        assert [row["id"] for row in get(f"{gateway.url}/v1/reviews")[1]["data"]] == [name]


async def _say_not_solved(gateway: GatewayProcess, name: str) -> None:
    async with Client(gateway) as client:
        assert (await client.post("/v1/feedback", {"group_id": name, "outcome": "not_solved"}))[0] == 200


def children(pid: int) -> list[int]:
    """The serving processes of a supervisor, oldest first (its resource tracker serves nothing)."""
    found = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [each for each in found if b"resource_tracker" not in Path(f"/proc/{each}/cmdline").read_bytes()]
