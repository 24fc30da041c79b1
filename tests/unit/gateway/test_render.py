from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.answer import Answer
from gateway.call import ChatCall
from gateway.http import render
from router.domain import Sampling
from router.enums import Effort, OnFailure, Status
from router.settings import PriceSection
from tests.support.builders import check_spec, prompt, tool_call
from tests.support.fakes import Line
from tests.support.serving import EASY, OPEN, call, serving

RIGHT = check_spec("right")


async def answered(tmp_path: Path, chat: ChatCall, *lines: Line | str, **changes: Any) -> Answer:
    gateway = serving(tmp_path, *lines, **changes)
    return await gateway.service.answer(await gateway.service.prepare(chat))


async def test_a_single_sample_keeps_every_field_of_the_engine(tmp_path: Path) -> None:
    chat = call(OPEN)
    answer = await answered(tmp_path, chat, "a story")
    assert answer.completion is not None
    shown = render.completion_json(answer, chat)
    [theirs], [ours] = answer.completion["choices"], shown["choices"]
    assert ours == theirs | {"logprobs": None, "token_ids": None}
    assert theirs["logprobs"] is not None  # the engine's own object is not edited
    hidden = {"choices", "model", "prompt_token_ids", "verification"}
    assert {name: value for name, value in shown.items() if name not in hidden} == {
        name: value for name, value in answer.completion.items() if name not in hidden
    }
    assert (shown["model"], shown["prompt_token_ids"]) == ("champion", None)


async def test_what_the_client_asked_for_is_shown(tmp_path: Path) -> None:
    chat = call(OPEN, prompt=prompt(OPEN, return_token_ids=True), logprobs=True)
    shown = render.completion_json(await answered(tmp_path, chat, "ab"), chat)
    [choice] = shown["choices"]
    assert (choice["token_ids"], shown["prompt_token_ids"]) == ([97, 98], [1, 2, 3])
    assert [entry["token"] for entry in choice["logprobs"]["content"]] == ["a", "b"]


async def test_an_elected_answer_is_one_choice_with_the_usage_of_all_samples(tmp_path: Path) -> None:
    chat = call(EASY, RIGHT, prompt=prompt(EASY, Sampling(temperature=0.0)))
    answer = await answered(tmp_path, chat, "wrong", Line("right"), Line("never", delay_s=1.0))
    shown = render.completion_json(answer, chat)
    [choice] = shown["choices"]
    assert choice["message"] == {"role": "assistant", "content": "right"} and choice["finish_reason"] == "stop"
    assert choice["logprobs"] is None and choice["index"] == 0
    assert shown["usage"]["completion_tokens"] == answer.tokens.completion >= len("wrongright")
    assert shown["usage"]["total_tokens"] == answer.tokens.prompt + answer.tokens.completion
    assert shown["object"] == "chat.completion" and shown["id"].endswith(answer.verification.group_id)


async def test_the_verification_object_has_the_fields_of_the_contract(tmp_path: Path) -> None:
    answer = await answered(tmp_path, call(EASY, RIGHT), "right", prices={"base": PriceSection(input=1.0, output=1.0)})
    shown = render.verification_json(answer.verification)
    assert shown.keys() == {
        *("status", "reason", "route", "escalated", "samples", "votes", "agreement", "difficulty", "stopped"),
        *("profile", "score", "checks", "group_id", "policy", "cost_usd", "cached"),
    }
    [check] = shown["checks"]
    assert check.keys() == {"id", "type", "class", "outcome", "score", "ms", "version"}
    assert "want" not in str(shown) and "right" not in str(shown["checks"])  # no reference


async def test_headers_of_a_settled_answer(tmp_path: Path) -> None:
    priced = await answered(tmp_path, call(EASY, RIGHT), "right", prices={"base": PriceSection(input=0.0, output=4.0)})
    headers = render.answer_headers(priced)
    assert float(headers["X-Thinktwice-Cost-Usd"]) == 20e-6
    assert headers["X-Thinktwice-Status"] == "verified" and headers["X-Thinktwice-Samples"] == "1"


async def test_the_chunks_of_an_answer_settled_before_its_first_byte(tmp_path: Path) -> None:
    chat = call(EASY, RIGHT, stream=True)
    answer = await answered(tmp_path, chat, "right")
    first, last = render.answer_chunks(answer, chat)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "right"}
    assert first["choices"][0]["finish_reason"] is None and "verification" not in first
    assert last["choices"][0] == {
        "index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop", "stop_reason": None
    }  # fmt: skip
    assert last["verification"]["status"] == "verified" and last["id"] == first["id"]
    usage = render.usage_chunk(last, answer, chat)
    assert usage["choices"] == [] and usage["usage"]["completion_tokens"] == 5
    assert usage.keys() == {"id", "object", "created", "model", "choices", "usage"} and usage["id"] == first["id"]


async def test_the_chunks_of_a_refusal(tmp_path: Path) -> None:
    chat = call(EASY, RIGHT, stream=True, on_failure=OnFailure.REFUSE)
    first, last = render.answer_chunks(await answered(tmp_path, chat, "wrong"), chat)
    assert first["choices"][0]["delta"] == {"role": "assistant", "refusal": "No answer passed its checks."}
    assert last["choices"][0]["finish_reason"] == "content_filter"


async def test_the_chunks_of_tool_calls_are_numbered(tmp_path: Path) -> None:
    answer = await answered(tmp_path, call(EASY, RIGHT), "right")
    tool = {"id": "call-1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [tool]}
    called = Answer(answer.verification, message, "tool_calls", answer.tokens)
    first, _ = render.answer_chunks(called, call(EASY))
    assert first["choices"][0]["delta"] == {"role": "assistant", "tool_calls": [{"index": 0, **tool}]}


async def test_a_live_refusal_is_appended_to_what_was_streamed(tmp_path: Path) -> None:
    chat = call(EASY, RIGHT, stream=True, effort=Effort.LOW, on_failure=OnFailure.REFUSE)
    answer = await answered(tmp_path, chat, "wrong")
    chunk = {
        "id": "x", "created": 1, "object": "chat.completion.chunk", "model": "base", "usage": {"total_tokens": 9},
        "choices": [{"index": 0, "delta": {"content": "ong"}, "finish_reason": "stop", "token_ids": [1]}],
    }  # fmt: skip
    shown = render.last_live_chunk(chunk, answer, chat)
    [choice] = shown["choices"]
    assert choice["delta"] == {"content": "ong", "refusal": "No answer passed its checks."}
    assert (choice["finish_reason"], choice["token_ids"]) == ("content_filter", None)
    assert shown["verification"]["status"] == "failed" and "usage" not in shown and shown["model"] == "champion"
    assert chunk["choices"][0]["finish_reason"] == "stop"  # type: ignore[index]


@pytest.mark.parametrize(
    ("delta", "finish", "nothing"),
    [
        ({}, None, True),
        (None, None, True),
        ({}, "stop", False),
        ({"content": ""}, None, False),
        ({"tool_calls": [{"index": 0, "function": {"arguments": ""}}]}, None, False),
        ({"reasoning": "so"}, None, False),
    ],
)
def test_a_chunk_that_only_we_asked_for(delta: dict[str, Any] | None, finish: str | None, nothing: bool) -> None:
    chunk = {"choices": [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": {"content": []}}]}
    assert render.shows_nothing(chunk, call(OPEN)) is nothing
    assert not render.shows_nothing(chunk, call(OPEN, logprobs=True))
    assert not render.shows_nothing(chunk, call(OPEN, prompt=prompt(OPEN, return_token_ids=True)))


async def test_the_engines_own_usage_chunk_closes_a_live_stream(tmp_path: Path) -> None:
    usage = {"completion_tokens": 1, "completion_tokens_details": {"reasoning_tokens": 1}}
    closing = {"id": "chatcmpl-engine", "model": "base", "choices": [], "usage": usage, "system_fingerprint": "fp"}
    answer = replace(await answered(tmp_path, call(OPEN), "a story"), closing=closing)
    last = {"id": "chatcmpl-engine", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    asked, not_asked = call(OPEN, stream=True, include_usage=True), call(OPEN, stream=True)
    assert render.usage_chunk(last, answer, asked) == closing | {"model": "champion"}
    assert "system_fingerprint" not in render.last_live_chunk(last, answer, asked)
    assert render.last_live_chunk(last, answer, not_asked)["system_fingerprint"] == "fp"


async def test_an_elected_tool_call(tmp_path: Path) -> None:
    chat = call(OPEN, effort=Effort.HIGH, stream=True)
    called = Line("", "tool_calls", tool_calls=(tool_call('{"a": 1}'), tool_call('{"a": 2}')))
    answer = await answered(tmp_path, chat, called)
    assert (answer.verification.status, answer.verification.votes) == (Status.CONSENSUS, 3)
    [choice] = render.completion_json(answer, chat)["choices"]
    assert choice["message"] == {"role": "assistant", "content": None, "tool_calls": list(called.tool_calls)}
    assert choice["finish_reason"] == "tool_calls"
    first, last = render.answer_chunks(answer, chat)
    deltas = [{"index": index, **tool} for index, tool in enumerate(called.tool_calls)]
    assert first["choices"][0]["delta"] == {"role": "assistant", "tool_calls": deltas}
    assert last["choices"][0]["finish_reason"] == "tool_calls"
