"""Routes that are not ours to decode: `/v1/completions` and `/v1/embeddings`, rebuilt from an allowlist."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway import strict_json
from gateway.adapters.vllm import VllmBackend
from gateway.body import ClientGone, read_body, until_disconnect
from gateway.http_errors import error_body
from gateway.policies import PolicyDirectory
from gateway.sse import DONE, EventResponse, event
from router.errors import InvalidRequest, ThinkTwiceError
from router.settings import Settings

_COMPLETION = frozenset(
    {"model", "prompt", "suffix", "echo", "max_tokens", "min_tokens", "ignore_eos", "stop", "seed", "user"}
    | {"temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty"}
    | {"n", "stream", "stream_options", "logprobs", "logit_bias"}
)
ROUTES: Mapping[str, frozenset[str]] = {
    "/v1/completions": _COMPLETION,
    "/v1/embeddings": frozenset({"model", "input", "encoding_format", "dimensions", "user"}),
}


class Passthrough:
    """Passes a request on, with the model's alias resolved and echoed."""

    def __init__(self, backend: VllmBackend, policies: PolicyDirectory, settings: Settings) -> None:
        self._backend, self._policies, self._settings = backend, policies, settings

    async def __call__(self, request: Request, path: str) -> Response:
        """Answer one request to the route `path`.

        Raises `InvalidRequest`, `ModelNotFound`, `RegistryError` or `BackendError`.
        """
        try:
            return await self._pass_on(request, path)
        except ClientGone:
            return Response(status_code=499)

    async def _pass_on(self, request: Request, path: str) -> Response:
        fields = strict_json.loads(await read_body(request, self._settings.server.max_body_bytes))
        if not isinstance(fields, dict):
            raise InvalidRequest("the body must be a JSON object")
        for name in fields.keys() - ROUTES[path] - set(self._settings.backend.allow_fields):
            raise InvalidRequest(f"the field {name!r} is not supported", param=name, code="unknown_field")
        asked = fields.get("model")
        if not isinstance(asked, str):
            raise InvalidRequest("model must be a string", param="model")
        body = fields | {"model": (await self._policies.ready(asked)).name}
        deadline_s = self._settings.server.deadline_s
        if not fields.get("stream"):
            answer = await until_disconnect(request, self._backend.post_json(path, body, deadline_s))
            return _json({**answer, "model": asked})
        chunks = self._backend.stream_json(path, body, deadline_s)
        # Awaited before the status goes out, so that a refusal keeps its own; None: a stream without chunks.
        first = await until_disconnect(request, anext(chunks, None))
        return EventResponse(_events(first, chunks, asked), chunks)


def _json(body: Mapping[str, Any]) -> Response:
    return Response(msgspec.json.encode(body), media_type="application/json")


async def _events(
    first: Mapping[str, Any] | None, rest: AsyncGenerator[Mapping[str, Any]], model: str
) -> AsyncGenerator[bytes]:
    try:
        if first is not None:
            yield event({**first, "model": model})
        async for chunk in rest:
            yield event({**chunk, "model": model})
    except ThinkTwiceError as error:
        yield event(error_body(error))
    yield DONE
