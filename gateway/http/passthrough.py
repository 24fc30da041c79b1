"""Routes that are not ours to decode: `/v1/completions` and `/v1/embeddings`, rebuilt from an allowlist."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack
from typing import Any, Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.cost import price_of
from gateway.dependencies import Dependencies
from gateway.http.admission import Admission, Asking
from gateway.http.body import read_body, until_disconnect
from gateway.http.client_timeout import client_timeout_s
from gateway.http.fields import loads_object, whole_numbers
from gateway.http.http_errors import error_body
from gateway.http.sse import DONE, EventResponse, event
from gateway.tenants.metering import completion_bound, prompt_bound
from router.domain import CheckSpec, EngineInfo, Tokens, VerificationSpec
from router.errors import Forbidden, InvalidRequest, ThinkTwiceError
from router.guardrails import screen
from router.settings import Settings

_DEFAULT_MAX_TOKENS = 16  # OpenAI's, and vLLM's, for a plain completion
_COMPLETION = frozenset(
    {"model", "prompt", "suffix", "echo", "max_tokens", "min_tokens", "ignore_eos", "stop", "seed", "user"}
    | {"temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty"}
    | {"n", "stream", "stream_options", "logprobs", "logit_bias", "response_format"}
    | {"stop_token_ids", "include_stop_str_in_output"}
)
_READ = ("prompt", "suffix", "input")
ROUTES: Mapping[str, frozenset[str]] = {
    "/v1/completions": _COMPLETION,
    "/v1/embeddings": frozenset({"model", "input", "encoding_format", "dimensions", "user"}),
}


class PlainBackend(Protocol):
    """Engines, as far as these routes need them. Raises `BackendError`."""

    async def post_json(self, path: str, body: Mapping[str, Any], timeout_s: float) -> Mapping[str, Any]:
        """The JSON object that a POST route answers."""
        ...

    def stream_json(self, path: str, body: Mapping[str, Any], timeout_s: float) -> AsyncGenerator[Mapping[str, Any]]:
        """The JSON objects that a POST route streams."""
        ...


# The fields that are read here too; what the others may be is the engine's to say.
_OURS = (
    ("stream", bool | None, "a boolean"),
    ("stream_options", dict | None, "an object"),
    ("n", int | None, "an integer"),  # an engine may read "5" as 5: what is reserved has to be what it draws
    ("max_tokens", int | None, "an integer"),
)
_INTEGERS = ("n", "max_tokens")


class Passthrough:
    """Passes a request on, with the model's alias resolved and echoed."""

    def __init__(
        self, backend: PlainBackend, dependencies: Dependencies, admission: Admission, settings: Settings
    ) -> None:
        self._backend, self._deps, self._admission, self._settings = backend, dependencies, admission, settings

    async def __call__(self, request: Request, path: str) -> Response:
        """Answer one request to the route `path`.

        Raises `NotAdmitted`, `InvalidRequest`, `ModelNotFound`, `RegistryError` or `BackendError`; `ClientGone`.
        """
        fields = loads_object(await read_body(request, self._settings.server.max_body_bytes))
        for name in fields.keys() - ROUTES[path] - set(self._settings.backend.allow_fields):
            raise InvalidRequest(f"the field {name!r} is not supported", param=name, code="unknown_field")
        asked = fields.get("model")
        if not isinstance(asked, str):
            raise InvalidRequest("model must be a string", param="model")
        whole_numbers(fields, _INTEGERS)
        for name, kind, described in _OURS:
            if not isinstance(fields.get(name), kind):
                raise InvalidRequest(f"{name} must be {described}", param=name)
        screens = self._screens(path, fields)
        policy = await self._deps.policies.ready(asked)
        wanted_s = client_timeout_s(request.headers, stream=bool(fields.get("stream")))
        deadline_s = min(self._settings.server.deadline_s, wanted_s or math.inf)
        asking = Asking(
            tenant=request.state.caller.tenant,
            draws=lambda: 1,  # the bound is of all of them
            bound=lambda: _bound(fields, self._deps.engine),
            price=price_of(self._deps.prices, policy),
            deadline=asyncio.get_running_loop().time() + deadline_s,
        )
        body = fields | {"model": policy.name}
        if "prompt" in ROUTES[path]:  # no tenant can time another's prompts by the engine's prefix cache
            body["cache_salt"] = self._deps.cache_salt(request.state.caller.tenant)
        async with AsyncExitStack() as stack:
            admitted = await stack.enter_async_context(self._admission.admitted(request, asking))
            if screens:
                await screen(self._deps.verifier, screens, [fields.get(name) for name in _READ])
            meter = admitted.meter
            if not fields.get("stream"):
                answering = self._backend.post_json(path, body, deadline_s)
                work = answering if meter is None else meter.whole(answering, 1)
                return _json({**await until_disconnect(request, work), "model": asked}, admitted.headers)
            chunks = self._backend.stream_json(path, body if meter is None else _reporting(body), deadline_s)
            if meter is not None:
                chunks = meter.stream(chunks)
            # Awaited before the status goes out, so that a refusal keeps its own; None: a stream without chunks.
            first = await until_disconnect(request, anext(chunks, None))
            events = _events(first, chunks, asked, _wants_usage(fields))
            return EventResponse(events, chunks, admitted.headers, during=stack.pop_all())

    def _screens(self, path: str, fields: Mapping[str, Any]) -> tuple[CheckSpec, ...]:
        """The content policy of what is asked here. Raises `Forbidden` where it could not be held."""
        spec = self._deps.guardrails.applied(VerificationSpec())
        if spec.checks and "input" not in ROUTES[path]:
            raise Forbidden("the content policy covers the answers of /v1/chat/completions only: use that route")
        if spec.screens and not all(_is_text(fields.get(name)) for name in _READ):
            raise Forbidden("the content policy reads text: send no token ids")
        return spec.screens


def _is_text(value: object) -> bool:
    return value is None or isinstance(value, str) or (isinstance(value, list) and all(map(_is_text, value)))


def _bound(fields: Mapping[str, Any], engine: EngineInfo) -> Tokens:
    """The most tokens a request can cost; what is not valid is the engine's to refuse. Embeddings complete nothing."""
    prompt, asked = fields.get("prompt", fields.get("input")), fields.get("max_tokens", _DEFAULT_MAX_TOKENS)
    texts = len(prompt) if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int) else 1
    limit = None if asked is None else max(asked, 0)  # null is no limit
    completions = 0 if "input" in fields else texts * max(fields.get("n") or 1, 1)
    return Tokens(prompt_bound(prompt, engine, texts), completions * completion_bound(limit, engine))


def _wants_usage(fields: Mapping[str, Any]) -> bool:
    options = fields.get("stream_options")
    return isinstance(options, dict) and bool(options.get("include_usage"))


def _reporting(body: Mapping[str, Any]) -> dict[str, Any]:
    """The request with the engine's token counts at the end of its stream."""
    options = body.get("stream_options")
    return {**body, "stream_options": {**(options if isinstance(options, dict) else {}), "include_usage": True}}


def _json(body: Mapping[str, Any], headers: Mapping[str, str]) -> Response:
    return Response(msgspec.json.encode(body), media_type="application/json", headers=dict(headers))


async def _events(
    first: Mapping[str, Any] | None, rest: AsyncGenerator[Mapping[str, Any]], model: str, usage: bool
) -> AsyncGenerator[bytes]:
    """The events; a chunk of token counts alone is left out unless the client asked for its `usage`."""
    try:
        if first is not None and (usage or first.get("choices") != []):
            yield event({**first, "model": model})
        async for chunk in rest:
            if usage or chunk.get("choices") != []:
                yield event({**chunk, "model": model})
    except ThinkTwiceError as error:
        yield event(error_body(error))
    yield DONE
