"""One HTTP exchange with an application, without a socket; the client may leave at any time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Message

from gateway.adapters.memory_quota import MemoryQuota
from gateway.adapters.vllm import VllmBackend
from gateway.bootstrap.checks import tenant_limits
from gateway.http.admission import Admission
from gateway.http.app import create_app
from gateway.http.chat import ChatRoute
from gateway.http.feedback import Labelling
from gateway.http.groups import GroupRoutes
from gateway.http.idempotency import Idempotency
from gateway.http.passthrough import Passthrough
from gateway.http.policy_routes import PolicyRoutes
from gateway.http.request_scope import RequestScope
from gateway.http.runtime import ChatEndpoint, Runtime
from gateway.learning import Learning
from gateway.telemetry.outcomes import Outcomes
from gateway.tenants.gate import FairGate
from gateway.tenants.key_file import KeyDirectory, KeyFile
from gateway.tenants.limiter import Limiter
from gateway.tenants.quota import QuotaStore
from gateway.watcher import Watcher
from router.log.index import GroupIndex
from router.settings import Settings
from tests.support.serving import Serving


@dataclass(slots=True)
class Exchange:
    """What the application answered so far. `leave` is the client closing its connection."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    ended: bool = False
    leave: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def json(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.body)
        return value

    @property
    def events(self) -> list[dict[str, Any]]:
        """The JSON objects of a stream, its comments and `[DONE]` left out."""
        lines = [line.removeprefix("data: ") for line in self.body.decode().split("\n") if line.startswith("data: ")]
        return [json.loads(line) for line in lines if line != "[DONE]"]

    async def run(self, app: ASGIApp, request: Mapping[str, Any], body: bytes, *, whole: bool = True) -> None:
        """Serve one request; a body that is not `whole` is still coming."""
        waiting = [body]

        async def receive() -> Message:
            if waiting:
                return {"type": "http.request", "body": waiting.pop(), "more_body": not whole}
            await self.leave.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.status = message["status"]
                self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
                return
            self.body += message.get("body", b"")
            self.ended = not message.get("more_body", False)
            await asyncio.sleep(0)

        scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "query_string": b"", **request}
        await app(scope, receive, send)


def request(method: str, path: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The scope of a request."""
    raw = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
    return {"method": method, "path": path, "headers": raw}


def application(
    serving: Serving,
    *,
    engine: VllmBackend | None = None,
    keys: Path | None = None,
    tables: Mapping[str, Any] | None = None,
    quota: QuotaStore | None = None,
    around: Callable[[ChatEndpoint], ChatEndpoint] = lambda chat: chat,
    **server: Any,
) -> RequestScope:
    """The application over a service of fakes; `engine` serves the routes that are passed on, `keys` holds the keys.

    `server` are settings of `[server]`, `tables` further tables of the configuration; `around` wraps the chat route.
    """
    fixed = {"state": {"dir": "."}, "log": {"dir": "/nonexistent"}}
    settings = Settings.model_validate({"server": server, **fixed, **(tables or {})})
    deps, directory = serving.deps, KeyDirectory(KeyFile(keys or Path("/nonexistent")))
    limiter = Limiter(tenant_limits(settings), quota or MemoryQuota(), MemoryQuota(), workers=1, lease_s=60.0)
    gate = FairGate(settings.server.max_inflight, settings.server.max_queued, deps.metrics.set_queued)
    admission = Admission(limiter, gate)
    labelling = Labelling(deps, admission, settings)
    engine = engine or VllmBackend("http://127.0.0.1:9")
    learning = Learning(Path("/nonexistent"), settings.router, settings.prices)
    return create_app(
        Runtime(
            deps=deps,
            chat=around(ChatRoute(serving.service, deps, admission, Idempotency.of(deps), settings)),
            passthrough=Passthrough(engine, deps, admission, settings),
            labelling=labelling,
            groups=GroupRoutes(labelling, settings),
            policies=PolicyRoutes(serving.registry, deps.policies),
            outcomes=Outcomes(GroupIndex(settings.log.dir)),
            watcher=Watcher(deps, directory, limiter, cache_name="memory", learning=learning),
            keys=directory,
            started_at=1_700_000_000.0,
        )
    )


async def post(
    app: ASGIApp, body: Any, path: str = "/v1/chat/completions", headers: Mapping[str, str] | None = None
) -> Exchange:
    """A whole POST of a JSON value, or of bytes as they are."""
    exchange = Exchange()
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    await exchange.run(app, request("POST", path, headers), data)
    return exchange


async def get(app: ASGIApp, path: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> Exchange:
    """A whole request without a body."""
    exchange = Exchange()
    await exchange.run(app, request(method, path, headers), b"")
    return exchange


async def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Wait for `condition`; fails when it does not come true in time."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)
