"""The HTTP side: routes of vLLM's dialect, streams, errors, and cancellation when a client goes away."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException

from gateway.engine.adapters import ModelRegistry
from gateway.engine.errors import ApiError
from gateway.engine.grammar import GrammarCompiler
from gateway.engine.model import LanguageModel
from gateway.engine.prompts import PromptBuilder
from gateway.engine.protocol import (
    ChatRequest,
    CompletionRequest,
    Generation,
    LoadAdapter,
    UnloadAdapter,
    parse,
)
from gateway.engine.render import ChatRenderer, CompletionRenderer, Envelope, Renderer, sse
from gateway.engine.row import Event, Failure, Row, TokenEvent
from gateway.engine.scheduler import Job, Refused, Scheduler

MAX_BODY_BYTES = 16 * 1024 * 1024
STOP_SECONDS = 1.0
CLIENT_CLOSED_REQUEST = 499


@dataclass(frozen=True, slots=True)
class Engine:
    """Everything a request handler needs."""

    model: LanguageModel
    scheduler: Scheduler
    registry: ModelRegistry
    prompts: PromptBuilder
    grammars: GrammarCompiler
    version: str


Queue = asyncio.Queue[tuple[int, list[Event]]]
"""Events on their way from the generation thread, with the number of the first choice they belong to."""


def create_app(engine: Engine) -> FastAPI:
    """Build the application. Its lifespan starts and stops the generation thread."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        engine.scheduler.start()
        yield
        await asyncio.to_thread(engine.scheduler.stop, STOP_SECONDS)

    app = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    app.add_exception_handler(ApiError, on_api_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(Exception, on_crash)
    routes = {
        ("POST", "/v1/chat/completions"): chat_completions,
        ("POST", "/v1/completions"): completions,
        ("GET", "/v1/models"): models,
        ("POST", "/v1/load_lora_adapter"): load_adapter,
        ("POST", "/v1/unload_lora_adapter"): unload_adapter,
        ("GET", "/health"): health,
        ("GET", "/load"): load,
        ("GET", "/version"): version,
    }
    for (method, path), handler in routes.items():
        app.add_route(path, functools.partial(handler, engine), methods=[method])
    return app


async def chat_completions(engine: Engine, request: Request) -> Response:
    """POST /v1/chat/completions."""
    body = parse(await read_body(request), ChatRequest)
    name, _ = engine.registry.slot(body.model)
    prompts = [engine.prompts.chat(body)]
    wanted = bool(body.logprobs)
    envelope = Envelope(
        name, engine.model.tokenizer, prompts, body.n, bool(body.return_token_ids), wanted, "chatcmpl"
    )  # fmt: skip
    return await answer(engine, request, body, ChatRenderer(envelope))


async def completions(engine: Engine, request: Request) -> Response:
    """POST /v1/completions."""
    body = parse(await read_body(request), CompletionRequest)
    name, _ = engine.registry.slot(body.model)
    prompts = engine.prompts.completion(body)
    wanted = body.logprobs is not None
    envelope = Envelope(name, engine.model.tokenizer, prompts, body.n, bool(body.return_token_ids), wanted, "cmpl")
    return await answer(engine, request, body, CompletionRenderer(envelope))


async def answer(engine: Engine, request: Request, body: Generation, renderer: Renderer) -> Response:
    """Start the samples of a request and return its response, streamed or whole."""
    queue: Queue = asyncio.Queue()
    jobs = await start(engine, body, renderer.envelope, queue)
    if body.stream:
        usage = body.stream_options is not None and bool(body.stream_options.include_usage)
        return StreamingResponse(stream(engine, jobs, queue, renderer, usage), media_type="text/event-stream")
    whole = asyncio.ensure_future(collect(engine, jobs, queue, renderer))
    gone = asyncio.ensure_future(disconnected(request))
    await asyncio.wait({whole, gone}, return_when=asyncio.FIRST_COMPLETED)
    gone.cancel()
    if not whole.done():
        whole.cancel()
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    return Response(msgspec.json.encode(whole.result()), media_type="application/json")


async def start(engine: Engine, body: Generation, envelope: Envelope, queue: Queue) -> list[Job]:
    """Validate, build and submit the jobs of a request. Raises ApiError (400, 404, or 503 when the queue is full)."""
    context = engine.model.max_model_len
    params = [body.sampling(len(prompt), context) for prompt in envelope.prompts]
    schema = body.response_format.schema() if body.response_format is not None else None
    matcher = await asyncio.to_thread(engine.grammars.compile, schema) if schema is not None else None
    # Resolved after the last await, so that no unload can come between this and the submission.
    _, slot = engine.registry.slot(body.model)
    loop = asyncio.get_running_loop()
    jobs = []
    for number, (prompt, sampling) in enumerate(zip(envelope.prompts, params, strict=True)):
        first = number * body.n

        def sink(events: list[Event], first: int = first) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, (first, events))

        rows = [
            Row(index, sampling, prompt, engine.model, matcher.copy() if matcher else None) for index in range(body.n)
        ]
        jobs += [Job(prompt, slot, rows[i : i + engine.scheduler.max_rows], sink) for i in wave_starts(engine, body.n)]
    try:
        for job in jobs:
            engine.scheduler.submit(job)
    except Refused as error:
        cancel(engine, jobs)
        raise ApiError(str(error), status=HTTPStatus.SERVICE_UNAVAILABLE) from error
    return jobs


def wave_starts(engine: Engine, samples: int) -> range:
    """Return where each wave of samples begins: more than fit side by side run one wave after the other."""
    return range(0, samples, engine.scheduler.max_rows)


async def events(engine: Engine, jobs: Sequence[Job], queue: Queue) -> AsyncIterator[tuple[int, TokenEvent]]:
    """Yield (choice number, event) until every sample has ended; cancel what still runs when left early."""
    running = sum(len(job.rows) for job in jobs)
    try:
        while running:
            first, batch = await queue.get()
            for event in batch:
                if isinstance(event, Failure):
                    raise ApiError(event.message, status=HTTPStatus.INTERNAL_SERVER_ERROR)
                running -= event.finish_reason is not None
                yield first + event.index, event
    finally:
        cancel(engine, jobs)


async def collect(engine: Engine, jobs: Sequence[Job], queue: Queue, renderer: Renderer) -> dict[str, Any]:
    """Gather all samples into one response object."""
    choices = renderer.envelope.choices()
    async for number, event in events(engine, jobs, queue):
        renderer.append(choices[number], event)
    return renderer.whole(choices)


async def stream(
    engine: Engine, jobs: Sequence[Job], queue: Queue, renderer: Renderer, include_usage: bool
) -> AsyncIterator[bytes]:
    """Yield server-sent events; an error after the first byte is an event too."""
    choices = renderer.envelope.choices()
    try:
        for chunk in renderer.opening(choices):
            yield sse(chunk)
        async for number, event in events(engine, jobs, queue):
            yield sse(renderer.delta(choices[number], event))
        if include_usage:
            yield sse(renderer.usage(choices))
    except ApiError as error:
        yield sse(error.body())
    finally:
        cancel(engine, jobs)
    yield b"data: [DONE]\n\n"


def cancel(engine: Engine, jobs: Sequence[Job]) -> None:
    """Stop jobs; harmless for those that have ended."""
    for job in jobs:
        engine.scheduler.cancel(job)


async def models(engine: Engine, _: Request) -> Response:
    """GET /v1/models."""
    return json_response(engine.registry.cards())


async def load_adapter(engine: Engine, request: Request) -> Response:
    """POST /v1/load_lora_adapter."""
    body = parse(await read_body(request), LoadAdapter)
    await engine.registry.load(body.lora_name, body.lora_path)
    return Response(f"Success: LoRA adapter '{body.lora_name}' added successfully.", media_type="text/plain")


async def unload_adapter(engine: Engine, request: Request) -> Response:
    """POST /v1/unload_lora_adapter."""
    body = parse(await read_body(request), UnloadAdapter)
    engine.registry.unload(body.lora_name)
    return Response(f"Success: LoRA adapter '{body.lora_name}' removed successfully.", media_type="text/plain")


async def health(engine: Engine, _: Request) -> Response:
    """GET /health: 200 while the generation thread lives."""
    return Response(status_code=200 if engine.scheduler.alive else HTTPStatus.SERVICE_UNAVAILABLE)


async def load(engine: Engine, _: Request) -> Response:
    """GET /load: rows running and requests waiting."""
    running, waiting = engine.scheduler.load()
    return json_response({"running": running, "waiting": waiting})


async def version(engine: Engine, _: Request) -> Response:
    """GET /version."""
    return json_response({"version": engine.version})


async def read_body(request: Request) -> bytes:
    """Read a bounded body. Raises ApiError (413)."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            message = f"The body is larger than {MAX_BODY_BYTES} bytes"
            raise ApiError(message, status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    return bytes(body)


async def disconnected(request: Request) -> None:
    """Return when the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def on_api_error(_: Request, error: Exception) -> Response:
    """Answer an ApiError in its own shape."""
    if not isinstance(error, ApiError):
        raise error
    return json_response(error.body(), error.status)


async def on_http_error(_: Request, error: Exception) -> Response:
    """Answer an unknown route or method in the same shape."""
    if not isinstance(error, HTTPException):
        raise error
    status = HTTPStatus(error.status_code)
    return json_response(ApiError(status.phrase, status=status).body(), status)


async def on_crash(_: Request, error: Exception) -> Response:
    """Answer a defect of ours: 500, without its details."""
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    return json_response(ApiError(f"Internal error: {type(error).__name__}", status=status).body(), status)


def json_response(body: Any, status: int = HTTPStatus.OK) -> Response:
    """Encode a JSON response."""
    return Response(msgspec.json.encode(body), status, media_type="application/json")
