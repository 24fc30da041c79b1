"""The HTTP application: thin routes over the service, and every error in the OpenAI shape."""

from __future__ import annotations

import logging
from functools import partial
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import Depends, FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gateway.http_errors import error_body, error_code, error_headers, plain_error, status_of
from gateway.keys import Role
from gateway.passthrough import ROUTES
from gateway.request_scope import RequestScope
from gateway.runtime import Runtime
from router.errors import NotAdmitted, ThinkTwiceError

_log = logging.getLogger(__name__)


def create_app(runtime: Runtime) -> RequestScope:
    """The application over a running gateway. The request id is the outermost, so that a 500 carries it as well.

    Who may call a route is a property of the route, so no path and no header can be written to look like another's.
    """
    app = FastAPI(title="thinktwice", openapi_url=None, docs_url=None, redoc_url=None)
    app.state.runtime = runtime
    app.add_exception_handler(ThinkTwiceError, _refuse)
    app.add_exception_handler(HTTPException, _no_route)
    app.add_exception_handler(Exception, _broken)
    _add_probes(app)
    _add_client_routes(app)
    _add_operator_routes(app)
    return RequestScope(app)


def _require(role: Role) -> Any:
    """A route's requirement of an API key of at least this role; it leaves the caller at `request.state.caller`."""

    async def check(request: Request) -> None:
        caller = request.state.caller = _runtime(request).keys.caller(request.headers.get("authorization"))
        if role is Role.ADMIN:
            caller.require_admin("this route")

    return Depends(check)


def _add_probes(app: FastAPI) -> None:
    """Open to everybody: they say nothing but whether the gateway works."""

    @app.get("/healthz")
    async def healthz() -> Response:
        return _json({"status": "ok"})

    @app.get("/readyz")
    async def readyz(request: Request) -> Response:
        health = _runtime(request).watcher.health
        status = 200 if health.engine_up else 503
        return _json({"ready": health.engine_up, "degraded": health.degraded, "backend": health.engine_up}, status)


def _add_client_routes(app: FastAPI) -> None:
    """Open to every key."""
    get, post = (partial(add, dependencies=[_require(Role.USER)]) for add in (app.get, app.post))

    @post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Response:
        return await _runtime(request).chat(request)

    def pass_on(path: str) -> None:
        @post(path)
        async def passthrough(request: Request) -> Response:
            return await _runtime(request).passthrough(request, path)

    for path in ROUTES:
        pass_on(path)

    @get("/v1/models")
    async def models(request: Request) -> Response:
        runtime = _runtime(request)
        created = int(runtime.started_at)
        cards = [
            {"id": name, "object": "model", "created": created, "owned_by": "thinktwice"}
            for name in runtime.deps.policies.names()
        ]
        return _json({"object": "list", "data": cards})

    @get("/v1/scorecard")
    async def scorecard(request: Request) -> Response:
        return _json(_runtime(request).deps.scorecard.report())


def _add_operator_routes(app: FastAPI) -> None:
    """Open to keys of role admin."""
    get = partial(app.get, dependencies=[_require(Role.ADMIN)])

    @get("/metrics")
    async def metrics(request: Request) -> Response:
        body, content_type = _runtime(request).deps.metrics.render()
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


async def _broken(request: Request, error: Exception) -> Response:
    """A defect of ours: the client learns its request id and nothing else; the server logs the traceback after this."""
    request_id = request.state.request_id
    _log.error("request %s failed: %s", request_id, type(error).__name__)
    return _json(plain_error(f"internal error, request {request_id}", "server_error", code="internal_error"), 500)
