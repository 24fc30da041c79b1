"""The dialect over real sockets: shapes, streams, errors, disconnects."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import openai
import pytest

if TYPE_CHECKING:
    from tests.unit.gateway.engine.conftest import Client

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
PROMPT_IDS = "<|start|>user:hi\n<|start|>assistant:"
PIN: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 8, "seed": 5, "ignore_eos": True}
PINNED_TEXT: dict[str, Any] = {"prompt": "abc", "max_tokens": 6, "seed": 5, "ignore_eos": True}


def idle(client: Client) -> bool:
    return bool(client.get("/load")[1] == {"running": 0, "waiting": 0})


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_chat_completion_has_vllms_fields(client: Client) -> None:
    body = client.chat(**PIN, n=2, logprobs=True, top_logprobs=2, return_token_ids=True)
    assert body["object"] == "chat.completion"
    assert body["id"].startswith("chatcmpl-")
    assert (body["model"], body["system_fingerprint"]) == ("tiny", None)
    assert body["prompt_token_ids"] == client.engine.model.tokenizer.encode(PROMPT_IDS).ids
    prompt = len(body["prompt_token_ids"])
    assert body["usage"]["prompt_tokens"] == prompt
    assert (body["usage"]["completion_tokens"], body["usage"]["total_tokens"]) == (16, prompt + 16)
    for index, choice in enumerate(body["choices"]):
        assert choice["index"] == index
        assert choice["message"]["role"] == "assistant"
        assert (choice["finish_reason"], choice["stop_reason"]) == ("length", None)
        assert len(choice["token_ids"]) == len(choice["logprobs"]["content"]) == 8
        for entry in choice["logprobs"]["content"]:
            assert set(entry) == {"token", "logprob", "bytes", "top_logprobs"}
            assert bytes(entry["bytes"]).decode() == entry["token"]
            assert len(entry["top_logprobs"]) == 2
            assert (entry["top_logprobs"][0]["token"], entry["top_logprobs"][0]["logprob"]) == (
                entry["token"],
                entry["logprob"],
            )


def test_what_is_not_asked_for_is_null(client: Client) -> None:
    body = client.chat(**PIN)
    assert (body["prompt_token_ids"], body["choices"][0]["token_ids"], body["choices"][0]["logprobs"]) == (None,) * 3


def test_a_stream_tells_the_same_story(client: Client) -> None:
    asked = {**PIN, "n": 2, "logprobs": True, "return_token_ids": True}
    whole = client.chat(**asked)
    first, second, *rest, usage = client.stream(CHAT, {**asked, "stream_options": {"include_usage": True}})
    assert [c["choices"][0]["delta"] for c in (first, second)] == [{"role": "assistant", "content": ""}] * 2
    assert first["prompt_token_ids"] == whole["prompt_token_ids"]
    assert (usage["choices"], usage["usage"]) == ([], whole["usage"])
    assert {c["object"] for c in (first, *rest, usage)} == {"chat.completion.chunk"}
    for index, choice in enumerate(whole["choices"]):
        parts = [c["choices"][0] for c in rest if c["choices"][0]["index"] == index]
        assert "".join(p["delta"]["content"] for p in parts) == choice["message"]["content"]
        assert [i for p in parts for i in p["token_ids"]] == choice["token_ids"]
        assert [e for p in parts for e in p["logprobs"]["content"]] == choice["logprobs"]["content"]
        assert [p["finish_reason"] for p in parts] == [None] * 7 + ["length"]


def test_text_completions_take_text_and_token_ids(client: Client) -> None:
    ids = client.engine.model.tokenizer.encode("abc").ids
    texts = []
    for prompt in ("abc", ids, ["abc", "abc"], [ids, ids]):
        status, body = client.post(TEXT, {**PINNED_TEXT, "prompt": prompt, "return_token_ids": True, "logprobs": 1})
        assert (status, body["object"]) == (200, "text_completion")
        for choice in body["choices"]:
            assert choice["prompt_token_ids"] == ids
            columns = choice["logprobs"]
            assert {len(column) for column in columns.values()} == {6}
            assert columns["text_offset"][-1] == sum(len(t) for t in columns["tokens"][:-1])
            texts.append(choice["text"])
    assert len(texts) == 6
    assert len(set(texts)) == 1
    assert body["usage"]["prompt_tokens"] == 6
    assert client.post(TEXT, {"prompt": "abc", "ignore_eos": True})[1]["usage"]["completion_tokens"] == 16


def test_a_text_stream_tells_the_same_story(client: Client) -> None:
    asked = {**PINNED_TEXT, "n": 2, "logprobs": 0, "return_token_ids": True}
    whole = client.post(TEXT, asked)[1]
    chunks = client.stream(TEXT, asked)
    for index, choice in enumerate(whole["choices"]):
        parts = [c["choices"][0] for c in chunks if c["choices"][0]["index"] == index]
        assert [p["prompt_token_ids"] for p in parts] == [choice["prompt_token_ids"]] + [None] * 5
        assert [p["token_ids"][0] for p in parts] == choice["token_ids"]
        assert "".join(p["text"] for p in parts) == choice["text"]
        for column in ("tokens", "token_logprobs", "text_offset"):
            assert [x for p in parts for x in p["logprobs"][column]] == choice["logprobs"][column]


def test_a_stop_string_ends_the_text_before_it(client: Client) -> None:
    free = client.chat(**{**PIN, "max_tokens": 200})["choices"][0]["message"]["content"]
    stop = next(free[i : i + 2] for i in range(20, len(free)) if "�" not in free[i : i + 2])
    asked = {**PIN, "max_tokens": 200, "stop": [stop, "never there"]}
    choice = client.chat(**asked)["choices"][0]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", stop)
    assert choice["message"]["content"] == free[: free.index(stop)]
    streamed = [c["choices"][0] for c in client.stream(CHAT, asked)]
    assert "".join(c["delta"]["content"] for c in streamed) == choice["message"]["content"]
    assert streamed[-1]["stop_reason"] == stop


def test_more_samples_than_places_run_in_waves(client: Client) -> None:
    six = client.chat(**PIN, n=6, return_token_ids=True)["choices"]
    last = client.chat(**{**PIN, "seed": 10}, return_token_ids=True)["choices"][0]
    assert [c["index"] for c in six] == list(range(6))
    assert six[5]["token_ids"] == last["token_ids"]


def test_content_parts_are_joined(client: Client) -> None:
    parts = [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]
    body = client.chat(messages=[{"role": "user", "content": parts}], return_token_ids=True)
    assert body["prompt_token_ids"] == client.engine.model.tokenizer.encode(PROMPT_IDS.replace("hi", "h\ni")).ids


def test_the_openai_sdk_reads_it(client: Client) -> None:
    with openai.OpenAI(base_url=f"http://127.0.0.1:{client.port}/v1", api_key="none", max_retries=0) as sdk:
        answer = sdk.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "hi"}], max_completion_tokens=4, seed=1, logprobs=True
        )
        assert answer.usage is not None
        assert answer.usage.completion_tokens <= 4
        stream = sdk.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "hi"}], max_tokens=4, seed=1, stream=True
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        assert text == answer.choices[0].message.content
        with pytest.raises(openai.NotFoundError, match="does not exist"):
            sdk.completions.create(model="nobody", prompt="x")


def test_small_routes(client: Client) -> None:
    assert client.get("/health") == (200, None)
    status, body = client.get("/v1/models")
    card = body["data"][0]
    assert (status, card["id"], card["parent"], card["max_model_len"]) == (200, "tiny", None, 2048)
    assert card["root"] == client.engine.model.path
    assert set(client.get("/version")[1]) == {"version"}
    assert client.get("/nowhere")[1]["error"]["code"] == 404
    assert client.get(CHAT)[1]["error"]["code"] == 405


MESSAGES = [{"role": "user", "content": "hi"}]
INVALID = {"type": 3}
BAD_CHAT: list[tuple[dict[str, Any], str]] = [
    ({"n": 0}, "n"),
    ({"n": 2.5}, "n"),
    ({"temperature": -0.1}, "temperature"),
    ({"temperature": 2.1}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"top_k": -2}, "top_k"),
    ({"min_p": 1.5}, "min_p"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 3000}, "max_tokens"),
    ({"max_completion_tokens": 0}, "max_completion_tokens"),
    ({"max_tokens": 4, "min_tokens": 5}, "min_tokens"),
    ({"stop": ["a", ""]}, "stop"),
    ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"presence_penalty": 0.5}, "presence_penalty"),
    ({"logit_bias": {}}, "logit_bias"),
    ({"verification": {}}, "verification"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
    ({"response_format": {"type": "json_schema"}}, "response_format"),
    ({"response_format": {"type": "xml"}}, "response_format.type"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": INVALID}}}, "response_format"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "user", "content": "x" * 3000}]}, "messages"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].type"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "param"), BAD_CHAT, ids=[f"{i}-{p}" for i, (_, p) in enumerate(BAD_CHAT)])
def test_bad_chat_requests_name_the_field(client: Client, fields: dict[str, Any], param: str) -> None:
    status, body = client.post(CHAT, {"messages": MESSAGES, **fields})
    error = body["error"]
    assert (status, error["code"], error["type"], error["param"]) == (400, 400, "BadRequestError", param)
    assert error["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"messages": NaN}',
        b'{"messages": [], "temperature": NaN}',
        b"[]",
        b"[" * 5000,
        b"\xff\xfe",
        b"null",
    ],
)
def test_bodies_that_are_no_requests(client: Client, body: bytes) -> None:
    status, answer = client.post(CHAT, body)
    assert (status, answer["error"]["type"]) == (400, "BadRequestError")


@pytest.mark.parametrize("prompt", ["", [], [300], [-1], [1, "a"], None, [[]], "x" * 3000])
def test_bad_prompts(client: Client, prompt: Any) -> None:
    status, answer = client.post(TEXT, {"prompt": prompt})
    assert (status, answer["error"]["code"]) == (400, 400)


def test_an_unknown_model_is_404(client: Client) -> None:
    status, body = client.post(CHAT, {"messages": MESSAGES, "model": "nobody"})
    error = {"message": "The model `nobody` does not exist.", "type": "NotFoundError", "param": "model", "code": 404}
    assert (status, body) == (404, {"error": error})


def test_a_body_over_the_bound_is_413(client: Client) -> None:
    status, body = client.post(CHAT, json.dumps({"messages": MESSAGES, "user": "x" * (17 << 20)}).encode())
    assert (status, body["error"]["code"]) == (413, 413)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_places(client: Client, stream: bool) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=10)
    body = {"messages": MESSAGES, "max_tokens": 1900, "n": 4, "ignore_eos": True, "stream": stream}
    connection.request("POST", CHAT, json.dumps(body))
    until(lambda: client.get("/load")[1]["running"] == 4)
    connection.sock.close()
    connection.close()
    until(lambda: idle(client))


def test_a_full_queue_is_503(client: Client) -> None:
    scheduler = client.engine.scheduler
    bound, scheduler._max_waiting = scheduler._max_waiting, 0
    try:
        status, body = client.post(CHAT, {"messages": MESSAGES})
    finally:
        scheduler._max_waiting = bound
    assert (status, body["error"]["type"]) == (503, "ServiceUnavailableError")
    assert idle(client)
