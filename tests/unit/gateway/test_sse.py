import asyncio
import gc
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.answer import Answer
from gateway.call import ChatCall
from gateway.http import sse
from router.enums import Effort, OnFailure
from router.errors import BackendUnavailable, ThinkTwiceError
from tests.support.asgi import Exchange, request
from tests.support.builders import check_spec
from tests.support.fakes import Line
from tests.support.serving import EASY, OPEN, Serving, call, serving

RIGHT = check_spec("right")
VOTED = {"effort": Effort.HIGH, "stream": True}


async def streamed(
    gateway: Serving, chat: ChatCall, errors: list[ThinkTwiceError] | None = None, keepalive_s: float = 5.0
) -> tuple[list[bytes], sse.EventStream]:
    """All that a stream sends."""
    prepared = await gateway.service.prepare(chat)
    items = sse.items(gateway.service, prepared, keepalive_s)
    failed: list[ThinkTwiceError] = [] if errors is None else errors
    events = sse.EventStream(await anext(items), items, prepared, failed.append)
    return [data async for data in events], events


def values(sent: list[bytes]) -> list[dict[str, Any]]:
    """The events, without comments and `[DONE]`."""
    events = b"".join(sent).split(b"\n\n")
    return [json.loads(data[6:]) for data in events if data.startswith(b"data: {")]


async def test_a_live_stream_shows_tokens_as_they_come(tmp_path: Path) -> None:
    sent, events = await streamed(serving(tmp_path, "a story"), call(OPEN, stream=True, include_usage=True))
    *chunks, last, usage = values(sent)
    text = "".join(c["delta"].get("content") or "" for chunk in [*chunks, last] for c in chunk["choices"])
    assert text == "a story" and len(chunks) >= 2
    assert all("verification" not in chunk and "usage" not in chunk for chunk in chunks)
    assert last["verification"]["route"] == "single" and last["choices"][0]["finish_reason"] == "stop"
    assert usage["usage"]["completion_tokens"] == 7 and usage["choices"] == []
    assert {chunk["model"] for chunk in [*chunks, last, usage]} == {"champion"}
    assert last["id"] == usage["id"] == "chatcmpl-engine"
    assert sent[-1] == sse.DONE and events.settled


async def test_without_include_usage_there_is_no_usage(tmp_path: Path) -> None:
    for chat in (call(OPEN, stream=True), call(EASY, RIGHT, **VOTED)):
        sent, _ = await streamed(serving(tmp_path, "right"), chat)
        assert not any("usage" in value for value in values(sent))


async def test_a_voted_answer_is_silent_until_it_is_settled(tmp_path: Path) -> None:
    gateway = serving(tmp_path, Line("wrong", delay_s=0.1), Line("right", delay_s=0.15))
    sent, events = await streamed(gateway, call(EASY, RIGHT, include_usage=True, **VOTED), keepalive_s=0.02)
    comments = [data for data in sent if data == sse.KEEP_ALIVE]
    assert len(comments) >= 3 and sent[: len(comments)] == comments
    message, last, usage = values(sent)
    assert message["choices"][0]["delta"] == {"role": "assistant", "content": "right"}
    assert last["verification"]["status"] == "verified" and usage["usage"]["completion_tokens"] >= len("wrongright")
    assert sent[-1] == sse.DONE and events.settled


@pytest.mark.parametrize("on_failure", [OnFailure.REFUSE, OnFailure.ERROR])
async def test_an_answer_withheld_after_the_first_byte(tmp_path: Path, on_failure: OnFailure) -> None:
    gateway = serving(tmp_path, Line("wrong", delay_s=0.05))
    errors: list[ThinkTwiceError] = []
    sent, events = await streamed(gateway, call(EASY, RIGHT, on_failure=on_failure, **VOTED), errors, 0.01)
    if on_failure is OnFailure.REFUSE:
        assert values(sent)[-1]["choices"][0]["finish_reason"] == "content_filter" and errors == []
    else:
        [value] = values(sent)
        assert value["error"]["code"] == "verification_failed" and value["error"]["verification"]["samples"] == 5
        assert len(errors) == 1
    assert b"wrong" not in b"".join(sent) and sent[-1] == sse.DONE and events.settled


async def test_a_live_stream_at_low_effort_can_only_append_its_refusal(tmp_path: Path) -> None:
    chat = call(EASY, RIGHT, stream=True, effort=Effort.LOW, on_failure=OnFailure.REFUSE)
    sent, _ = await streamed(serving(tmp_path, "wrong"), chat)
    last = values(sent)[-1]
    assert last["choices"][0]["finish_reason"] == "content_filter" and last["verification"]["status"] == "failed"
    assert b"wr" in b"".join(sent)


async def test_a_live_stream_at_low_effort_whose_failure_is_an_error(tmp_path: Path) -> None:
    chat = call(EASY, RIGHT, stream=True, effort=Effort.LOW, on_failure=OnFailure.ERROR)
    errors: list[ThinkTwiceError] = []
    sent, events = await streamed(serving(tmp_path, "wrong"), chat, errors)
    assert values(sent)[-1]["error"]["code"] == "verification_failed" and len(errors) == 1
    assert sent[-1] == sse.DONE and events.settled


async def test_an_engine_that_fails_in_the_middle(tmp_path: Path) -> None:
    errors: list[ThinkTwiceError] = []
    gateway = serving(tmp_path, Line("half", error=BackendUnavailable("gone")))
    sent, events = await streamed(gateway, call(OPEN, stream=True), errors)
    assert values(sent)[-1]["error"]["message"] == "gone" and sent[-1] == sse.DONE
    assert [str(error) for error in errors] == ["gone"] and events.settled


async def test_a_stream_that_was_left_is_not_settled_and_frees_its_samples(tmp_path: Path) -> None:
    """Left while it cannot send: the response's own generator has no chance to end by itself."""
    gateway = serving(tmp_path, Line("a long story", delay_s=30.0))
    prepared = await gateway.service.prepare(call(OPEN, stream=True))
    items = sse.items(gateway.service, prepared, 5.0)
    events = sse.EventStream(await anext(items), items, prepared, lambda _: None)
    exchange = Exchange()
    exchange.leave.set()
    await sse.EventResponse(events, items)({**request("POST", "/"), "type": "http"}, *_blocked(exchange))
    assert not events.settled and gateway.backend.cancelled == 1


def _blocked(exchange: Exchange) -> tuple[Any, Any]:
    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.05)
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            await asyncio.sleep(30)

    return receive, send


async def test_an_answer_that_fails_after_its_client_left_is_not_complained_about(tmp_path: Path) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    gateway = serving(tmp_path, Line("x", delay_s=0.05, error=BackendUnavailable("gone")))
    items = sse.items(gateway.service, await gateway.service.prepare(call(EASY, RIGHT, **VOTED)), 0.01)
    assert await anext(items) is None
    await asyncio.sleep(0.2)
    await items.aclose()
    gc.collect()
    assert complaints == []


async def test_a_cached_answer_needs_no_keep_alive(tmp_path: Path) -> None:
    gateway = serving(tmp_path, "right")
    for _ in range(2):
        prepared = await gateway.service.prepare(call(EASY, RIGHT, stream=True))
        first = await anext(sse.items(gateway.service, prepared, 5.0))
    assert isinstance(first, Answer) and first.verification.cached
