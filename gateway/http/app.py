"""The HTTP application: thin routes over the service, and every error in the OpenAI shape."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from gateway.http.body import ClientGone
from gateway.http.console.page import Console
from gateway.http.http_errors import error_body, error_code, error_headers, plain_error, status_of
from gateway.http.openapi import document
from gateway.http.passthrough import ROUTES
from gateway.http.request_scope import RequestScope
from gateway.http.runtime import Runtime
from gateway.tenants.keys import Role
from gateway.tenants.same_machine import require_same_machine
from router.errors import NotAdmitted, ThinkTwiceError

Endpoint = Callable[[Request], Awaitable[Response]]

CHAT = "/v1/chat/completions"

_log = logging.getLogger(__name__)


def create_app(runtime: Runtime) -> RequestScope:
    """The application over a running gateway. The request id is the outermost, so that a 500 carries it as well."""
    console = Console()
    passed_on = [_route(path, partial(_passthrough, path=path), Role.USER, "POST") for path in ROUTES]
    app = _Application(
        title="thinktwice",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        # Starlette's own routes: bodies are decoded by our parser, so FastAPI's resolution of parameters is only cost.
        routes=[
            _route(CHAT, _chat, Role.USER, "POST"),
            _route("/healthz", _healthz, None),  # the probes say nothing but whether the gateway works
            _route("/readyz", _readyz, None),
            _route("/console", console.file, None),  # a page without data: it asks the routes below with a key
            _route("/console/{file}", console.file, None),
            _route("/openapi.json", _openapi, Role.USER),
            *passed_on,
            _route("/v1/models", _models, Role.USER),
            _route("/v1/feedback", _part(lambda runtime: runtime.labelling.feedback), Role.USER, "POST"),
            _route("/v1/scorecard", _scorecard, Role.USER),
            _route("/v1/groups", _part(lambda runtime: runtime.groups.groups), Role.ADMIN),
            _route("/v1/groups/{group_id}", _part(lambda runtime: runtime.groups.group), Role.ADMIN),
            _route("/v1/reviews", _part(lambda runtime: runtime.groups.reviews), Role.ADMIN),
            _route("/v1/reviews/{group_id}", _part(lambda runtime: runtime.groups.review), Role.ADMIN, "POST"),
            _route("/v1/policies", _part(lambda runtime: runtime.policies.policies), Role.ADMIN),
            _route("/v1/policies/rollback", _part(lambda runtime: runtime.policies.rollback), Role.ADMIN, "POST"),
            _route("/v1/policies/{name}/promote", _part(lambda runtime: runtime.policies.promote), Role.ADMIN, "POST"),
            _route("/metrics", _metrics, Role.ADMIN),
        ],
        exception_handlers={ThinkTwiceError: _refuse, HTTPException: _no_route, ClientGone: _gone, Exception: _broken},
    )
    app.state.runtime = runtime
    return RequestScope(app, runtime.drain)


class _Application(FastAPI):
    """FastAPI, but a chat request goes straight to its endpoint, and its answer straight to the server.

    What the framework does for each request (its telemetry, its limits, the search for a route, the layers around what
    is sent) costs a tenth of a verified cache hit. Errors become the same answers.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._chat = _guarded(_chat, Role.USER)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http" or scope["path"] != CHAT or scope["method"] != "POST":
            await super().__call__(scope, receive, send)
            return
        scope["app"] = self
        request = Request(scope, receive, send)
        try:
            response = await self._chat(request)
        except ThinkTwiceError as error:
            response = await _refuse(request, error)
        except ClientGone as error:
            response = await _gone(request, error)
        except Exception as error:  # the process boundary: answered as a defect of ours, and logged by the server
            await (await _broken(request, error))(scope, receive, send)
            raise
        await response(scope, receive, send)


def _route(path: str, endpoint: Endpoint, needs: Role | None, method: str = "GET") -> Route:
    """A route for callers with an API key of at least the role `needs`; None opens it to everybody."""

    async def open_to_all(request: Request) -> Response:
        return await endpoint(request)

    return Route(path, open_to_all if needs is None else _guarded(endpoint, needs), methods=[method])


def _guarded(endpoint: Endpoint, needs: Role) -> Endpoint:
    """An endpoint for callers with an API key of at least the role `needs`.

    Who may call a route is a property of the route, so no path and no header can be written to look like another's.
    The caller is left at `request.state.caller`.
    """

    async def guarded(request: Request) -> Response:
        keys = _runtime(request).keys
        caller = request.state.caller = keys.caller(request.headers.get("authorization"))
        if not keys.required:
            require_same_machine(request.headers)
        if needs is Role.ADMIN:
            caller.require_admin("this route")
        return await endpoint(request)

    return guarded


def _part(select: Callable[[Runtime], Endpoint]) -> Endpoint:
    """An endpoint that a part of the running gateway serves."""

    async def endpoint(request: Request) -> Response:
        return await select(_runtime(request))(request)

    return endpoint


async def _healthz(_: Request) -> Response:
    return _json({"status": "ok"})


async def _readyz(request: Request) -> Response:
    runtime = _runtime(request)
    health, stopping = runtime.watcher.health, runtime.drain.begun
    ready = health.engine_up and not stopping
    degraded = [*health.degraded, "stopping"] if stopping else health.degraded
    return _json({"ready": ready, "degraded": degraded, "backend": health.engine_up}, 200 if ready else 503)


async def _openapi(_: Request) -> Response:
    return _json(document())


async def _chat(request: Request) -> Response:
    return await _runtime(request).chat(request)


async def _passthrough(request: Request, path: str) -> Response:
    return await _runtime(request).passthrough(request, path)


async def _models(request: Request) -> Response:
    runtime = _runtime(request)
    card = {"object": "model", "created": int(runtime.started_at), "owned_by": "thinktwice"}
    card["max_model_len"] = runtime.deps.engine.max_model_len  # as vLLM says it: clients cut their prompts by it
    cards = [{"id": name, **card} for name in runtime.deps.policies.names()]
    return _json({"object": "list", "data": cards})


async def _scorecard(request: Request) -> Response:
    runtime, caller = _runtime(request), request.state.caller
    outcomes = await runtime.outcomes.report(None if caller.role is Role.ADMIN else caller.tenant)
    return _json(runtime.deps.scorecard.report() | outcomes)


async def _metrics(request: Request) -> Response:
    body, content_type = _runtime(request).deps.metrics.render(request.headers.get("accept", ""))
    return Response(body, media_type=content_type)


def _runtime(request: Request) -> Runtime:
    runtime: Runtime = request.app.state.runtime
    return runtime


def _json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(body), status, headers, media_type="application/json")


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, ThinkTwiceError)
    if isinstance(error, NotAdmitted):
        _runtime(request).deps.metrics.observe_denied(error_code(error))
    return _json(error_body(error), status_of(error), error_headers(error))


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {HTTPStatus(error.status_code).phrase}"
    code = "not_found" if error.status_code == 404 else "method_not_allowed"
    return _json(plain_error(message, "invalid_request_error", code=code), error.status_code, dict(error.headers or {}))


async def _gone(_: Request, error: Exception) -> Response:
    assert isinstance(error, ClientGone)
    return Response(status_code=499)


async def _broken(request: Request, error: Exception) -> Response:
    """A defect of ours: the client learns its request id and nothing else; the server logs the traceback after this."""
    request_id = request.state.request_id
    _log.error("request %s failed: %s", request_id, type(error).__name__)
    return _json(plain_error(f"internal error, request {request_id}", "server_error", code="internal_error"), 500)
