"""`Idempotency-Key`: the same request twice is one request; the same key for two requests is an error."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from starlette.types import ASGIApp

from gateway.adapters.memory_store import MemoryStore
from gateway.http.idempotency import MAX_REPLY_BYTES, NAMESPACE
from router.errors import BackendUnavailable, CacheUnavailable
from tests.support.asgi import Exchange, application, post, request, until
from tests.support.fakes import Line
from tests.support.serving import Serving, serving

KEY = {"Idempotency-Key": '"8e03978e-40d5-43dd-bc93-6894a57f9324"'}
CHECK = {"checks": [{"type": "numeric", "reference": 4}]}
RESULT = 'thinktwice_idempotent_requests_total{result="%s"}'


def body(text: str = "Tell me a story.", **fields: Any) -> dict[str, Any]:
    return {"model": "base", "messages": [{"role": "user", "content": text}], **fields}


def gateway_of(tmp_path: Path, *lines: Line | str, **changes: Any) -> tuple[Serving, ASGIApp]:
    gateway = serving(tmp_path, *lines, **changes)
    return gateway, application(gateway)


async def test_a_retry_gets_the_whole_response_it_had(tmp_path: Path) -> None:
    gateway, app = gateway_of(tmp_path, "one", "two")
    first = await post(app, body(), headers=KEY)
    again = await post(app, body(), headers=KEY)
    assert first.status == again.status == 200 and first.body == again.body
    assert first.json["verification"]["status"] == "unverified" and not again.json["verification"]["cached"]
    assert again.headers.pop("idempotent-replayed") == "true" and "idempotent-replayed" not in first.headers
    for headers in (first.headers, again.headers):
        del headers["x-request-id"]  # each request has its own
    assert first.headers == again.headers
    assert len(gateway.log.records) == len(gateway.backend.draws) == 1
    assert [gateway.metric(RESULT % name) for name in ("first", "replayed")] == [1, 1]
    ended = 'thinktwice_requests_total{code_class="2xx",outcome="ok",route="none",stream="false"}'
    assert gateway.metric(ended) == 1


async def test_without_a_key_and_under_another_one_each_request_is_its_own(tmp_path: Path) -> None:
    gateway, app = gateway_of(tmp_path, "one", "two", "three")
    for headers in ({}, {"Idempotency-Key": "a"}, {"Idempotency-Key": "b"}):
        await post(app, body(), headers=headers)
    assert len({record.group_id for record in gateway.log.records}) == 3


@pytest.mark.parametrize("other", [body("Another story."), body(temperature=0.5), body() | {"n": 2}])
async def test_the_same_key_for_another_request_is_refused(tmp_path: Path, other: dict[str, Any]) -> None:
    gateway, app = gateway_of(tmp_path, "one")
    first = await post(app, body(), headers=KEY)
    refused = await post(app, other, headers=KEY)
    assert (refused.status, refused.json["error"]["code"]) == (422, "idempotency_key_reused")
    assert refused.json["error"]["param"] == "Idempotency-Key" and refused.headers["x-should-retry"] == "false"
    assert (await post(app, body(), headers=KEY)).body == first.body and len(gateway.log.records) == 1


async def test_while_the_first_runs_a_retry_is_told_to_come_back(tmp_path: Path) -> None:
    gateway, app = gateway_of(tmp_path, Line("slow", delay_s=0.2))
    running = asyncio.create_task(post(app, body(), headers=KEY))
    await until(lambda: bool(gateway.backend.draws))
    early = await post(app, body(), headers=KEY)
    assert (early.status, early.json["error"]["code"]) == (409, "idempotency_key_in_use")
    assert int(early.headers["retry-after"]) >= 1 and "x-should-retry" not in early.headers
    first = await running
    assert (await post(app, body(), headers=KEY)).body == first.body and len(gateway.backend.draws) == 1


async def test_what_failed_may_be_tried_again(tmp_path: Path) -> None:
    _, app = gateway_of(tmp_path, Line("", error=BackendUnavailable("down")), Line("up"))
    assert (await post(app, body(), headers=KEY)).status == 503
    assert (await post(app, body(), headers=KEY)).status == 200


async def test_what_was_withheld_is_final(tmp_path: Path) -> None:
    gateway, app = gateway_of(tmp_path, "error", "right")  # the verifier's: nothing could be proved
    chat = body(verification={"checks": [{"type": "exact", "reference": "x"}], "on_failure": "error",
                              "samples": {"min": 1, "max": 1}})  # fmt: skip
    first = await post(app, chat, headers=KEY)
    again = await post(app, chat, headers=KEY)
    assert first.status == again.status == 422 and first.body == again.body
    assert first.json["error"]["code"] == "not_verified"
    assert len(gateway.log.records) == 1


async def test_a_client_that_leaves_frees_its_key(tmp_path: Path) -> None:
    gateway, app = gateway_of(tmp_path, Line("slow", delay_s=60), Line("quick"))
    leaving = Exchange()
    data = b'{"model": "base", "messages": [{"role": "user", "content": "Tell me a story."}]}'
    running = asyncio.create_task(leaving.run(app, request("POST", "/v1/chat/completions", KEY), data))
    await until(lambda: bool(gateway.backend.draws))
    leaving.leave.set()
    await running
    assert (await post(app, data, headers=KEY)).status == 200


async def test_a_reply_too_long_to_keep_is_not_kept(tmp_path: Path) -> None:
    gateway, app = gateway_of(tmp_path, "x" * (MAX_REPLY_BYTES // 50))
    assert len((await post(app, body(logprobs=True), headers=KEY)).body) > MAX_REPLY_BYTES
    assert (await post(app, body(logprobs=True), headers=KEY)).status == 200
    assert len(gateway.log.records) == 2


@pytest.mark.parametrize("key", ["", '""', "ä", "a b", "x" * 256, '"x'])
async def test_a_key_that_is_none_is_refused(tmp_path: Path, key: str) -> None:
    _, app = gateway_of(tmp_path, "one")
    refused = await post(app, body(), headers={"Idempotency-Key": key})
    assert (refused.status, refused.json["error"]["param"]) == (400, "Idempotency-Key")


async def test_quotes_are_not_part_of_the_key(tmp_path: Path) -> None:
    gateway, app = gateway_of(tmp_path, "one")
    for key in ("abc", '"abc"'):
        await post(app, body(), headers={"Idempotency-Key": key})
    assert len(gateway.log.records) == 1


async def test_a_stream_cannot_have_one(tmp_path: Path) -> None:
    gateway, app = gateway_of(tmp_path, "one")
    refused = await post(app, body(stream=True), headers=KEY)
    assert (refused.status, refused.json["error"]["param"]) == (400, "Idempotency-Key")
    assert gateway.backend.draws == []


class FailingStore(MemoryStore):
    """Fails while it is told to."""

    failing = True

    async def add(self, name: str, value: bytes, ttl_s: float) -> bool:
        if self.failing and name.startswith(NAMESPACE):
            raise CacheUnavailable("down")
        return await super().add(name, value, ttl_s)

    async def swap(self, name: str, old: bytes, new: bytes | None, ttl_s: float = 0.0) -> bool:
        if self.failing and name.startswith(NAMESPACE):
            raise CacheUnavailable("down")
        return await super().swap(name, old, new, ttl_s)


async def test_without_its_store_a_request_is_served_as_if_it_had_no_key(tmp_path: Path) -> None:
    store = FailingStore(100)
    gateway, app = gateway_of(tmp_path, "one", store=store)
    for _ in range(2):
        assert (await post(app, body(), headers=KEY)).status == 200
    assert gateway.metric(RESULT % "unavailable") == 2 and len(gateway.log.records) == 2
    store.failing = False
    for _ in range(2):
        await post(app, body(), headers=KEY)
    assert len(gateway.log.records) == 3


async def test_a_store_that_fails_in_between_costs_the_replay_only(tmp_path: Path) -> None:
    store = FailingStore(100)
    store.failing = False
    gateway, app = gateway_of(tmp_path, Line("slow", delay_s=0.1), store=store)
    running = asyncio.create_task(post(app, body(), headers=KEY))
    await until(lambda: bool(gateway.backend.draws))
    store.failing = True
    assert (await running).status == 200


async def test_what_another_secret_wrote_is_not_replayed(tmp_path: Path) -> None:
    gateway, app = gateway_of(tmp_path, "one")
    await post(app, body(), headers=KEY)
    other = serving(tmp_path, "two", store=gateway.store, salt=b"t" * 32)
    answered = await post(application(other), body(), headers=KEY)
    assert answered.status == 200 and answered.json["choices"][0]["message"]["content"] == "two"
    assert other.metric("thinktwice_cache_rejected_total") == 1
