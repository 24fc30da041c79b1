import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.adapters.vllm import VllmBackend
from gateway.tenants.key_file import KeyFile
from gateway.tenants.keys import Role
from tests.support.asgi import Exchange, application, get, post, request, until
from tests.support.mock_engine import Fault, MockEngine, Script
from tests.support.serving import serving

COMPLETIONS, EMBEDDINGS = "/v1/completions", "/v1/embeddings"
PROMPT = {"model": "champion", "prompt": "Once"}


@pytest.fixture(scope="module")
def engine() -> Iterator[MockEngine]:
    scripts = {
        "empty": Script(("x",), fault=Fault.EMPTY),
        "refuse": Script(("x",), fault=Fault.REFUSE),
        "crash": Script(("x",), fault=Fault.CRASH),
        "stall": Script(("x",), fault=Fault.STALL),
        "cut": Script(("abcd",), fault=Fault.CUT),
        "error": Script(("abcd",), fault=Fault.ERROR_EVENT),
    }
    with MockEngine(scripts, Script(("upon a time",)), model="base") as engine:
        yield engine


@pytest.fixture
async def app(tmp_path: Path, engine: MockEngine) -> AsyncIterator[Any]:
    async with VllmBackend(engine.url) as backend:
        yield application(serving(tmp_path, "x"), engine=backend, max_body_bytes=4096, deadline_s=1.0)


async def test_a_completion(app: Any, engine: MockEngine) -> None:
    answered = await post(app, PROMPT | {"max_tokens": 5, "temperature": 0.5}, COMPLETIONS)
    assert answered.status == 200 and answered.json["choices"][0]["text"] == "upon a time"
    assert answered.json["model"] == "champion"
    path, sent = engine.requests[-1]
    assert path == COMPLETIONS and sent.pop("cache_salt")
    assert sent == {"model": "base", "prompt": "Once", "max_tokens": 5, "temperature": 0.5}


async def test_each_tenant_has_a_cache_salt_of_its_own(tmp_path: Path, engine: MockEngine) -> None:
    gateway = serving(tmp_path, "x")
    async with VllmBackend(engine.url) as backend:
        for tenant in ("acme", "rival"):
            key, _ = KeyFile(tmp_path).create(tenant, Role.USER)
            app = application(gateway, engine=backend, keys=tmp_path)
            headers = {"Authorization": f"Bearer {key}"}
            assert (await post(app, PROMPT, COMPLETIONS, headers)).status == 200
            assert engine.requests[-1][1]["cache_salt"] == gateway.deps.cache_salt(tenant)
    assert gateway.deps.cache_salt("acme") != gateway.deps.cache_salt("rival")


async def test_embeddings(app: Any) -> None:
    answered = await post(app, {"model": "base", "input": "x"}, EMBEDDINGS)
    assert answered.json["data"][0]["embedding"] == [0.5, -0.5] and answered.json["model"] == "base"


async def test_a_streamed_completion(app: Any) -> None:
    answered = await post(app, PROMPT | {"stream": True, "stream_options": {"include_usage": True}}, COMPLETIONS)
    assert answered.headers["content-type"].startswith("text/event-stream")
    text = "".join(choice["text"] for event in answered.events for choice in event["choices"])
    assert text == "upon a time" and answered.events[-1]["usage"]["completion_tokens"] == 11
    assert {event["model"] for event in answered.events} == {"champion"}
    assert answered.body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("body", "path", "status", "param"),
    [
        (PROMPT | {"verification": {}}, COMPLETIONS, 400, "verification"),
        (PROMPT | {"cache_salt": "x"}, COMPLETIONS, 400, "cache_salt"),
        ({"prompt": "x"}, COMPLETIONS, 400, "model"),
        ({"model": 3, "prompt": "x"}, COMPLETIONS, 400, "model"),
        (PROMPT | {"stream": "yes"}, COMPLETIONS, 400, "stream"),
        (PROMPT | {"stream": True, "stream_options": "usage"}, COMPLETIONS, 400, "stream_options"),
        (PROMPT | {"n": "5"}, COMPLETIONS, 400, "n"),
        (PROMPT | {"max_tokens": 4.5}, COMPLETIONS, 400, "max_tokens"),
        ({"model": "gpt-9", "input": "x"}, EMBEDDINGS, 404, "model"),
        ([], COMPLETIONS, 400, None),
        (b"{", EMBEDDINGS, 400, None),
        (b"x" * 5000, COMPLETIONS, 413, None),
    ],
)
async def test_a_bad_request(app: Any, body: Any, path: str, status: int, param: str | None) -> None:
    refused = await post(app, body, path)
    assert refused.status == status and refused.json["error"]["param"] == param


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("prompt", "status", "code"),
    [("refuse", 400, 400), ("crash", 502, "backend_protocol_error")],
)
async def test_an_engine_that_refuses(app: Any, prompt: str, status: int, code: Any, stream: bool) -> None:
    refused = await post(app, PROMPT | {"prompt": prompt, "stream": stream}, COMPLETIONS)
    assert refused.status == status and refused.json["error"]["code"] == code


@pytest.mark.parametrize(("prompt", "code"), [("cut", "backend_unavailable"), ("error", 500)])
async def test_an_engine_that_fails_in_the_middle_of_a_stream(app: Any, prompt: str, code: Any) -> None:
    answered = await post(app, PROMPT | {"prompt": prompt, "stream": True}, COMPLETIONS)
    assert answered.status == 200 and answered.events[-1]["error"]["code"] == code
    assert answered.body.endswith(b"data: [DONE]\n\n")


async def test_a_stream_without_a_chunk(app: Any) -> None:
    answered = await post(app, PROMPT | {"prompt": "empty", "stream": True}, COMPLETIONS)
    assert answered.status == 200 and answered.body == b"data: [DONE]\n\n"


async def test_an_engine_that_stalls(app: Any) -> None:
    refused = await post(app, PROMPT | {"prompt": "stall"}, COMPLETIONS)
    assert refused.status == 504 and refused.json["error"]["code"] == "backend_timeout"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_frees_the_engine(app: Any, engine: MockEngine, stream: bool) -> None:
    await until(lambda: engine.running == 0)
    cancelled = engine.cancelled
    exchange = Exchange()
    body = json.dumps(PROMPT | {"prompt": "stall", "stream": stream}).encode()
    serving_it = asyncio.create_task(exchange.run(app, request("POST", COMPLETIONS), body))
    await until(lambda: engine.running == 1 and (bool(exchange.body) or not stream))
    exchange.leave.set()
    async with asyncio.timeout(30):
        await serving_it
    await until(lambda: engine.running == 0)
    assert engine.cancelled == cancelled + 1 and exchange.status == (200 if stream else 499)


async def test_an_engine_that_is_down(tmp_path: Path) -> None:
    async with VllmBackend("http://127.0.0.1:9") as nowhere:
        app = application(serving(tmp_path, "x"), engine=nowhere)
        refused = await post(app, PROMPT, COMPLETIONS)
        assert refused.status == 503 and refused.json["error"]["code"] == "backend_unavailable"
        assert int(refused.headers["retry-after"]) > 0
        assert (await get(app, COMPLETIONS)).status == 405
