"""What the gateway needs of an engine. The same suite runs on the embedded engine and, by `make test-vllm`, on vLLM."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import math
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema_rs
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from gateway.adapters.vllm import VllmBackend, chat_body
from router.domain import Prompt, Sample, Sampling, Tokens
from router.errors import BackendRejected, BackendTimeout
from router.fold import StreamFold, completion_samples, completion_tokens
from router.ports import Draw
from tests.contract.conftest import Logprobs
from tests.support.engines import MODEL, VLLM_VERSION, EngineKind, RunningEngine

# sha256 of the token ids of the probe's conversation: one model, so one tokenizer and one chat template on each engine.
FINGERPRINT = "4ddaa343e3bd3db87609c4df5e9704673255c2c7368302294cc6f80b4304d38a"
END_TOKEN = 2
# In nats, for engines that run in float32: docs/vllm.md has the difference that was measured.
LOGPROB_BOUND = 1e-3
PERSON = {
    "type": "object",
    "properties": {"age": {"type": "integer", "minimum": 0, "maximum": 99}, "colour": {"enum": ["red", "blue"]}},
    "required": ["age", "colour"],
    "additionalProperties": False,
}


def draw(text: str = "What is 2 + 2?", n: int = 1, timeout_s: float = 120.0, **fields: Any) -> Draw:
    """One user message; `fields` that are no sampling setting are options of the prompt. At temperature 0 the model
    answers the default question in 12 tokens, the end token included."""
    settings = {"temperature": 0.0, "max_tokens": 16, **fields}
    sampling = {name: settings.pop(name) for name in Sampling.__slots__ if name in settings}
    return Draw(Prompt(({"role": "user", "content": text},), settings), Sampling(**sampling), MODEL, n, None, timeout_s)


def endless(**fields: Any) -> Draw:
    """Three samples that run for minutes unless they are cancelled."""
    return draw("Tell me a story.", n=3, temperature=1.0, max_tokens=1500, ignore_eos=True, **fields)


async def whole(backend: VllmBackend, asked: Draw) -> list[Sample]:
    return completion_samples(await backend.complete(asked), asked.sampling, asked.model)


async def streamed(backend: VllmBackend, asked: Draw) -> tuple[list[Sample], StreamFold]:
    fold = StreamFold(0, asked.sampling, asked.model, asked.n)
    ended = [sample async for chunk in backend.stream(asked) for sample in fold.feed(chunk)]
    return sorted(ended, key=lambda sample: sample.index), fold


async def post(engine: RunningEngine, path: str, body: dict[str, Any]) -> tuple[int, str, str]:
    """Status, content type and text of a plain HTTP request."""
    async with aiohttp.ClientSession() as session, session.post(engine.url + path, json=body) as response:
        return response.status, response.content_type, await response.text()


async def becomes_idle(engine: RunningEngine) -> bool:
    for _ in range(100):
        if await asyncio.to_thread(engine.running) == 0:
            return True
        await asyncio.sleep(0.1)
    return False


async def test_the_probe_finds_an_engine_whose_rows_can_train(backend: VllmBackend, engine: RunningEngine) -> None:
    info = await backend.probe()
    assert (info.missing, info.token_ids, info.logprobs_mode) == ((), True, "processed_logprobs")
    assert (info.models, info.max_model_len) == ((MODEL,), engine.context)
    assert info.template_fingerprint == FINGERPRINT
    versions = {EngineKind.EMBEDDED: importlib.metadata.version("thinktwice"), EngineKind.VLLM: VLLM_VERSION}
    assert info.version == versions[engine.kind]
    assert await backend.alive()


async def test_a_stream_folds_to_the_whole_answer(backend: VllmBackend, tokenizer: Any) -> None:
    completion = await backend.complete(draw())
    (expected,) = completion_samples(completion, draw().sampling, MODEL)
    (sample,), fold = await streamed(backend, draw())
    assert (sample.text, sample.token_ids, sample.finish_reason) == (expected.text, expected.token_ids, "stop")
    assert sample.logprobs == pytest.approx(expected.logprobs, abs=LOGPROB_BOUND)
    assert (sample.stop_reason, expected.stop_reason, expected.finish_reason) == (None, None, "stop")
    assert sample.token_ids is not None and sample.token_ids[-1] == END_TOKEN
    assert tokenizer.decode(sample.token_ids[:-1]) == sample.text
    assert fold.complete and fold.prompt_token_ids == tuple(completion["prompt_token_ids"])
    assert fold.tokens() == completion_tokens(completion)


async def test_one_call_draws_n_samples_with_ids_and_log_probabilities(backend: VllmBackend, tokenizer: Any) -> None:
    asked = draw(n=3, temperature=1.0)
    completion = await backend.complete(asked)
    samples = completion_samples(completion, asked.sampling, MODEL)
    assert [sample.index for sample in samples] == [0, 1, 2]
    for sample in samples:
        assert sample.token_ids and sample.logprobs and len(sample.token_ids) == len(sample.logprobs)
        assert all(value is not None and math.isfinite(value) and value <= 0 for value in sample.logprobs)
    rendered = tokenizer.apply_chat_template(list(asked.prompt.messages), add_generation_prompt=True)["input_ids"]
    assert completion["prompt_token_ids"] == rendered
    generated = sum(len(sample.token_ids or ()) for sample in samples)
    assert completion_tokens(completion) == Tokens(prompt=len(rendered), completion=generated)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
async def test_log_probabilities_are_those_of_a_forward_pass(
    backend: VllmBackend, load_network: Callable[[], Any], forward_logprobs: Logprobs, temperature: float
) -> None:
    asked = draw("Name three colours.", n=2, temperature=temperature, max_tokens=20)
    completion, network = await backend.complete(asked), load_network()
    for sample in completion_samples(completion, asked.sampling, MODEL):
        expected = forward_logprobs(network, completion["prompt_token_ids"], sample.token_ids, temperature)
        assert sample.logprobs == pytest.approx(expected.tolist(), abs=LOGPROB_BOUND)


async def test_seeds_repeat_and_differ_within_one_call(backend: VllmBackend) -> None:
    first, again, other = [
        [sample.token_ids for sample in await whole(backend, draw(n=3, temperature=1.0, seed=seed))]
        for seed in (7, 7, 8)
    ]
    assert first == again and first != other
    assert len(set(first)) == 3


@pytest.mark.parametrize("stop", ["math", "ssic mat"])
async def test_a_stop_string_ends_the_text_before_it(backend: VllmBackend, stop: str) -> None:
    (full,) = await whole(backend, draw())
    before = full.text.split(stop)[0]
    assert before != full.text
    (sample,) = await whole(backend, draw(stop=[stop, "never said"]))
    (live,), _ = await streamed(backend, draw(stop=[stop, "never said"]))
    for found in (sample, live):
        assert (found.text, found.finish_reason, found.stop_reason) == (before, "stop", stop)
        assert found.token_ids == (full.token_ids or ())[: len(found.token_ids or ())]
        assert len(found.token_ids or ()) == len(found.logprobs or ())


async def test_lengths(backend: VllmBackend) -> None:
    """`max_tokens` cuts, `min_tokens` and `ignore_eos` go on where the model would have ended (12 tokens)."""
    asked = {"max_tokens": draw(max_tokens=3), "min_tokens": draw(min_tokens=14), "ignore_eos": draw(ignore_eos=True)}
    found = {name: (await whole(backend, each))[0] for name, each in asked.items()}
    ids = {name: sample.token_ids or () for name, sample in found.items()}
    assert (len(ids["max_tokens"]), found["max_tokens"].finish_reason) == (3, "length")
    assert len(ids["min_tokens"]) >= 14 and END_TOKEN not in ids["min_tokens"][:14]
    assert (len(ids["ignore_eos"]), found["ignore_eos"].finish_reason) == (16, "length")
    assert END_TOKEN in ids["ignore_eos"]


async def test_a_json_schema_is_kept(backend: VllmBackend) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
    question = "Describe a person as JSON on one line."
    asked = draw(question, n=2, temperature=1.0, seed=2, max_tokens=60, response_format=form)
    for sample in await whole(backend, asked):
        assert sample.finish_reason == "stop"
        jsonschema_rs.validate(PERSON, json.loads(sample.text))


async def test_alternatives_begin_with_the_sampled_token(backend: VllmBackend, tokenizer: Any) -> None:
    (sample,) = await whole(backend, draw(temperature=1.0, top_logprobs=3))
    assert sample.raw_logprobs is not None and sample.token_ids is not None
    for token_id, entry in zip(sample.token_ids, sample.raw_logprobs["content"], strict=True):
        assert set(entry) == {"token", "logprob", "bytes", "top_logprobs"} and len(entry["top_logprobs"]) == 3
        assert entry["top_logprobs"][0] == {name: entry[name] for name in ("token", "logprob", "bytes")}
        likeliest = [other["logprob"] for other in entry["top_logprobs"][1:]]
        assert likeliest == sorted(likeliest, reverse=True)
        if tokenizer.decode([token_id]).isascii():
            assert bytes(entry["bytes"]).decode() == entry["token"] == tokenizer.decode([token_id])


async def test_a_stream_on_the_wire(engine: RunningEngine) -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}}
    body = chat_body(draw(n=2, temperature=1.0, max_tokens=3)) | options
    status, content_type, text = await post(engine, "/v1/chat/completions", body)
    assert (status, content_type) == (200, "text/event-stream")
    *events, done, rest = text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    *chunks, last = [json.loads(event.removeprefix("data: ")) for event in events]
    assert last["choices"] == [] and last["usage"]["total_tokens"] == sum(
        last["usage"][name] for name in ("prompt_tokens", "completion_tokens")
    )
    roles = [chunk for chunk in chunks if chunk["choices"][0]["delta"].get("role") == "assistant"]
    assert [chunk["choices"][0]["index"] for chunk in roles] == [0, 1]
    assert all(len(chunk["prompt_token_ids"]) == last["usage"]["prompt_tokens"] for chunk in roles)
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert {chunk["id"] for chunk in chunks} == {last["id"]}


async def test_a_plain_completion_takes_token_ids(backend: VllmBackend, tokenizer: Any) -> None:
    ids = tokenizer("The capital of France is")["input_ids"]
    body = {"model": MODEL, "prompt": ids, "max_tokens": 4, "temperature": 0, "logprobs": 1, "return_token_ids": True}
    answer = await backend.post_json("/v1/completions", body, 60.0)
    (choice,) = answer["choices"]
    assert (answer["object"], choice["finish_reason"], choice["prompt_token_ids"]) == ("text_completion", "length", ids)
    assert tokenizer.decode(choice["token_ids"]) == choice["text"] and "Paris" in choice["text"]
    assert {name: len(column) for name, column in choice["logprobs"].items()} == dict.fromkeys(
        ("text_offset", "token_logprobs", "tokens", "top_logprobs"), 4
    )


async def test_leaving_a_stream_frees_the_engine(backend: VllmBackend, engine: RunningEngine) -> None:
    async with aclosing(backend.stream(endless())) as chunks:
        async for chunk in chunks:
            if any(choice.get("token_ids") for choice in chunk["choices"]):
                break
        assert 1 <= await asyncio.to_thread(engine.running) <= 3
    assert await becomes_idle(engine)


async def test_cancelling_a_call_frees_the_engine(backend: VllmBackend, engine: RunningEngine) -> None:
    call = asyncio.create_task(whole(backend, endless()))
    while await asyncio.to_thread(engine.running) == 0:
        await asyncio.sleep(0.05)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await becomes_idle(engine)


async def test_a_deadline_is_a_timeout_and_frees_the_engine(backend: VllmBackend, engine: RunningEngine) -> None:
    with pytest.raises(BackendTimeout, match=r"within 1\.0 s"):
        await backend.complete(endless(timeout_s=1.0))
    with pytest.raises(BackendTimeout, match=r"within 1\.0 s"):
        await streamed(backend, endless(timeout_s=1.0))
    assert await becomes_idle(engine)


@pytest.mark.parametrize(
    ("status", "fields"),
    [
        (404, {"model": "no-such-model"}),
        (400, {"messages": [{"role": "user", "content": "word " * 9000}]}),
        (400, {"messages": []}),
        (400, {"n": 0}),
        (400, {"temperature": -1.0}),
        (400, {"temperature": 9.0}),
        (400, {"top_p": 0.0}),
        (400, {"max_tokens": 0}),
        (400, {"max_tokens": 90_000}),
        (400, {"stop": [""]}),
        (400, {"top_logprobs": 99}),
        (400, {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "no"}}}}),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_what_cannot_be_served_is_refused_with_an_error_object(
    backend: VllmBackend, status: int, fields: dict[str, Any], stream: bool
) -> None:
    body = chat_body(draw()) | fields
    with pytest.raises(BackendRejected) as refused:
        if stream:
            async for _ in backend.stream_json("/v1/chat/completions", body | {"stream": True}, 60.0):
                pass
        else:
            await backend.post_json("/v1/chat/completions", body, 60.0)
    error = refused.value.body["error"]
    assert (refused.value.status, error["code"]) == (status, status)
    assert error["message"] == str(refused.value) and isinstance(error["type"], str) and "param" in error


# peft 0.21 asks transformers 5.23 for an attribute under its old name.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
async def test_an_adapter_is_loaded_under_a_new_name(
    backend: VllmBackend,
    engine: RunningEngine,
    load_network: Callable[[], Any],
    forward_logprobs: Logprobs,
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(load_network(), config).save_pretrained(str(tmp_path))
    name, load, unload = "policy-1-0a1b2c3d", "/v1/load_lora_adapter", "/v1/unload_lora_adapter"
    before = await whole(backend, draw())
    assert (await post(engine, load, {"lora_name": name, "lora_path": str(tmp_path)}))[0] == 200
    assert (await post(engine, load, {"lora_name": name, "lora_path": str(tmp_path)}))[0] == 400
    missing, _, text = await post(engine, load, {"lora_name": "other", "lora_path": str(tmp_path / "missing")})
    assert missing == 404 and "No adapter found" in json.loads(text)["error"]["message"]
    cards = {card["id"]: card["parent"] for card in (await backend.get_json("/v1/models"))["data"]}
    assert cards == {MODEL: None, name: MODEL}
    completion = await backend.post_json("/v1/chat/completions", chat_body(draw()) | {"model": name}, 60.0)
    assert completion["model"] == name
    (sample,) = completion_samples(completion, draw().sampling, name)
    adapted = PeftModel.from_pretrained(load_network(), tmp_path)
    expected = forward_logprobs(adapted, completion["prompt_token_ids"], sample.token_ids)
    assert sample.logprobs == pytest.approx(expected.tolist(), abs=LOGPROB_BOUND)
    assert sample.token_ids != before[0].token_ids == (await whole(backend, draw()))[0].token_ids
    assert (await post(engine, unload, {"lora_name": name}))[0] == 200
    assert (await post(engine, "/v1/chat/completions", chat_body(draw()) | {"model": name}))[0] == 404
