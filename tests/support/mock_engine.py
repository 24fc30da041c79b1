"""An engine that speaks vLLM's dialect and says what its script tells it, on a loopback port, in a thread of its own.

One token a character. A script belongs to the prompts whose last user message holds its key.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from aiohttp import web

from tests.support.mock_script import Call, Fault, Script, asked

MODEL = "mock-model"


@dataclass(slots=True)
class MockEngine:
    """Use as a context manager. `requests` are the POST bodies as they came; `running` counts unfinished ones."""

    scripts: dict[str, Script] = field(default_factory=dict)
    default: Script = field(default_factory=partial(Script, ("The answer is \\boxed{4}.",)))
    port: int = 0
    model: str = MODEL
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)  # of each of them, names in lower case
    running: int = 0
    cancelled: int = 0
    adapters: dict[str, str] = field(default_factory=dict)  # folder by name
    of_model: dict[str, Script] = field(default_factory=dict)  # by model or adapter, before the prompts' scripts
    refuses_adapters: bool = False
    _given: Counter[str] = field(default_factory=Counter)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _thread: threading.Thread | None = None

    def __enter__(self) -> MockEngine:
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), name="mock-engine", daemon=True)
        self._thread.start()
        assert started.wait(10), "the mock engine did not start"
        return self

    def __exit__(self, *_: object) -> None:
        assert self._thread is not None
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def chats(self, key: str = "") -> list[dict[str, Any]]:
        """The chat requests whose last user message holds `key`; the probe's are those without a `cache_salt`."""
        return [body for path, body in list(self.requests) if path.endswith("chat/completions") and key in asked(body)]

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        runner = web.AppRunner(self._app(), handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
        self._loop.run_until_complete(self._listen(runner))
        started.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())

    async def _listen(self, runner: web.AppRunner) -> None:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = runner.addresses[0][1]

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.add_routes(
            [
                web.get("/health", _empty),
                web.get("/version", _version),
                web.get("/v1/models", self._models),
                web.post("/v1/load_lora_adapter", self._load),
                web.post("/v1/chat/completions", self._counted),
                web.post("/v1/completions", self._counted),
                web.post("/v1/embeddings", self._counted),
            ]
        )
        return app

    async def _models(self, _: web.Request) -> web.Response:
        card = {"id": self.model, "object": "model", "owned_by": "mock", "parent": None, "max_model_len": 4096}
        adapters = [card | {"id": name, "parent": self.model, "root": root} for name, root in self.adapters.items()]
        return web.json_response({"object": "list", "data": [card, *adapters]})

    async def _load(self, request: web.Request) -> web.Response:
        body = await request.json()
        name = body["lora_name"]
        if self.refuses_adapters or name in self.adapters:
            return _error(400, f"The lora adapter '{name}' has already been loaded, or does not fit.")
        self.adapters[name] = body["lora_path"]
        return web.Response(text=f"Success: LoRA adapter '{name}' added successfully.")

    async def _counted(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append((request.path, body))
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        if body.get("model") not in (self.model, *self.adapters):
            return _error(404, f"The model `{body.get('model')}` does not exist.")
        self.running += 1
        try:
            return await self._answer(request, body)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1

    async def _answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if request.path == "/v1/embeddings":
            data = [{"object": "embedding", "index": 0, "embedding": [0.5, -0.5]}]
            usage = {"prompt_tokens": 1, "total_tokens": 1}
            return web.json_response({"object": "list", "model": body["model"], "data": data, "usage": usage})
        found = self.of_model.get(body["model"]) or next(
            (script for key, script in self.scripts.items() if key in asked(body)), self.default
        )
        script = found.at_turn(body)
        if script.fault is Fault.REFUSE:
            return _error(400, "this prompt is refused by the engine")
        if script.fault is Fault.CRASH:
            return web.Response(status=500, text="Internal Server Error")
        answers = self._next(script, asked(body), body.get("n") or 1)
        call = Call(body, script, answers, plain=request.path == "/v1/completions")
        if body.get("stream"):
            return await self._stream(request, call)
        if script.fault is Fault.STALL:
            await asyncio.sleep(3600)
        await asyncio.sleep(script.delay_s)
        if script.fault is Fault.CUT and request.transport is not None:
            request.transport.abort()
        return web.json_response(call.whole())

    def _next(self, script: Script, asked: str, count: int) -> list[str]:
        first = self._given[asked]
        self._given[asked] += count
        return [script.answers[(first + offset) % len(script.answers)] for offset in range(count)]

    async def _stream(self, request: web.Request, call: Call) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for chunk in () if call.script.fault is Fault.EMPTY else (*call.roles(), *call.parts(first=True)):
            await response.write(_event(chunk))
        match call.script.fault:
            case Fault.STALL:
                await asyncio.sleep(3600)
            case Fault.CUT:
                assert request.transport is not None
                request.transport.abort()
                return response
            case Fault.ERROR_EVENT:
                await response.write(_event(_error_body(500, "the engine broke")))
                await response.write(b"data: [DONE]\n\n")
                return response
            case Fault.UNFINISHED | Fault.EMPTY:
                await response.write(b"data: [DONE]\n\n")
                return response
        for chunk in call.parts(first=False):
            await asyncio.sleep(call.script.delay_s)
            await response.write(_event(chunk))
        if (call.body.get("stream_options") or {}).get("include_usage"):
            await response.write(_event(call.head() | {"choices": [], "usage": call.usage()}))
        await response.write(b"data: [DONE]\n\n")
        return response


def _event(data: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def _error_body(status: int, message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "BadRequestError", "param": None, "code": status}}


def _error(status: int, message: str) -> web.Response:
    return web.json_response(_error_body(status, message), status=status)


async def _empty(_: web.Request) -> web.Response:
    return web.Response()


async def _version(_: web.Request) -> web.Response:
    return web.json_response({"version": "mock-1"})
