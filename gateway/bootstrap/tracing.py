"""OpenTelemetry traces: one span a stage of a request, around the ports, so that without them nothing is there to run.

The stages are `request`, `cache`, `engine`, `verify` and `log`. Spans carry names, counts and verdicts, never text.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, contextmanager
from pathlib import Path
from typing import Any

from opentelemetry import propagate
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer
from starlette.requests import Request
from starlette.responses import Response

from gateway.dependencies import Dependencies
from gateway.http.runtime import ChatEndpoint
from router.domain import CheckResult, CheckSpec, EngineInfo
from router.errors import ConfigError, ThinkTwiceError
from router.ports import Backend, Draw, GroupLog, Store, Verifier
from router.records import GroupRecord

_HEADERS = ("status", "route", "samples", "group-id", "policy")  # of `X-Thinktwice-`


def open_tracer(stack: AsyncExitStack, otlp_url: str) -> Tracer:
    """A tracer that sends spans to a collector over OTLP/HTTP, in batches from a thread of its own.

    The SDK's own variables hold as well, `OTEL_TRACES_SAMPLER` among them. Raises `ConfigError` without the extra.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ConfigError(
            "[tracing] otlp_url needs OpenTelemetry's SDK: install it with `pip install 'thinktwice[otel]'`"
        ) from error
    provider = TracerProvider(resource=Resource.create({"service.name": "thinktwice"}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=otlp_url)))
    stack.callback(provider.shutdown)
    tracer: Tracer = provider.get_tracer("thinktwice")
    return tracer


@contextmanager
def _stage(tracer: Tracer, name: str, **attributes: str | int) -> Iterator[Span]:
    """A span that is current within; of an error it keeps the class, since messages may quote a request."""
    with tracer.start_as_current_span(
        name, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield span
        except ThinkTwiceError as error:
            _failed(span, error)
            raise


def _failed(span: Span, error: ThinkTwiceError) -> None:
    span.set_status(StatusCode.ERROR)
    span.set_attribute("error.type", type(error).__name__)


def trace(deps: Dependencies, tracer: Tracer) -> None:
    """Put a span around what the ports do for requests."""
    deps.backend, deps.verifier = TracedBackend(deps.backend, tracer), TracedVerifier(deps.verifier, tracer)
    deps.store, deps.log = TracedStore(deps.store, tracer), TracedLog(deps.log, tracer)


class TracedChat:
    """The chat route in a span that continues the caller's trace. A stream's ends with its first item."""

    def __init__(self, inner: ChatEndpoint, tracer: Tracer) -> None:
        self._inner, self._tracer = inner, tracer

    async def __call__(self, request: Request) -> Response:
        """The response of the route; raises what it raises."""
        with self._tracer.start_as_current_span(
            "request",
            context=propagate.extract(dict(request.headers)),
            kind=SpanKind.SERVER,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                response = await self._inner(request)
            except ThinkTwiceError as error:
                _failed(span, error)
                raise
            span.set_attribute("http.response.status_code", response.status_code)
            for name in _HEADERS:
                if (value := response.headers.get(f"x-thinktwice-{name}")) is not None:
                    span.set_attribute(f"thinktwice.{name.replace('-', '_')}", value)
            return response


class TracedBackend:
    """`router.ports.Backend` with a span a draw."""

    def __init__(self, inner: Backend, tracer: Tracer) -> None:
        self._inner, self._tracer = inner, tracer

    async def complete(self, draw: Draw) -> Mapping[str, Any]:
        """As the backend within."""
        with _stage(self._tracer, "engine", **_drawn(draw)):
            return await self._inner.complete(draw)

    async def stream(self, draw: Draw) -> AsyncGenerator[Mapping[str, Any]]:
        """As the backend within; the span is not current, since a generator runs in its reader's context."""
        span = self._tracer.start_span("engine", attributes=_drawn(draw))
        try:
            async with aclosing(self._inner.stream(draw)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except ThinkTwiceError as error:
            _failed(span, error)
            raise
        finally:
            span.end()

    async def load_policy(self, name: str, folder: Path) -> None:
        """As the backend within."""
        await self._inner.load_policy(name, folder)

    async def probe(self) -> EngineInfo:
        """As the backend within."""
        return await self._inner.probe()

    async def alive(self) -> bool:
        """As the backend within."""
        return await self._inner.alive()

    @property
    def degraded(self) -> str | None:
        """As the backend within."""
        return self._inner.degraded


def _drawn(draw: Draw) -> dict[str, str | int]:
    return {"gen_ai.operation.name": "chat", "gen_ai.request.model": draw.model, "thinktwice.n": draw.n}


class TracedVerifier:
    """`router.ports.Verifier` with a span a candidate."""

    def __init__(self, inner: Verifier, tracer: Tracer) -> None:
        self._inner, self._tracer = inner, tracer

    async def verify(self, checks: Sequence[CheckSpec], text: str) -> tuple[CheckResult, ...]:
        """As the verifier within."""
        with _stage(self._tracer, "verify") as span:
            results = await self._inner.verify(checks, text)
            span.set_attribute("thinktwice.checks", [f"{each.type}:{each.outcome}" for each in results])
            return results

    def available(self, checks: Sequence[CheckSpec]) -> bool:
        """As the verifier within."""
        return self._inner.available(checks)

    def idle(self) -> bool:
        """As the verifier within."""
        return self._inner.idle()

    @property
    def down(self) -> tuple[str, ...]:
        """As the verifier within."""
        return self._inner.down


class TracedStore:
    """`router.ports.Store` with a span a lookup and a write."""

    def __init__(self, inner: Store, tracer: Tracer) -> None:
        self._inner, self._tracer = inner, tracer

    async def get(self, name: str) -> bytes | None:
        """As the store within."""
        with _stage(self._tracer, "cache", operation="get") as span:
            found = await self._inner.get(name)
            span.set_attribute("hit", found is not None)
            return found

    async def put(self, name: str, value: bytes, ttl_s: float) -> None:
        """As the store within."""
        with _stage(self._tracer, "cache", operation="put"):
            await self._inner.put(name, value, ttl_s)

    async def add(self, name: str, value: bytes, ttl_s: float) -> bool:
        """As the store within."""
        with _stage(self._tracer, "cache", operation="add"):
            return await self._inner.add(name, value, ttl_s)

    async def swap(self, name: str, old: bytes, new: bytes | None, ttl_s: float = 0.0) -> bool:
        """As the store within."""
        return await self._inner.swap(name, old, new, ttl_s)

    async def remove(self, name: str) -> None:
        """As the store within."""
        await self._inner.remove(name)

    async def alive(self) -> bool:
        """As the store within."""
        return await self._inner.alive()


class TracedLog:
    """`router.ports.GroupLog` with a span a group."""

    def __init__(self, inner: GroupLog, tracer: Tracer) -> None:
        self._inner, self._tracer = inner, tracer

    @property
    def healthy(self) -> str | None:
        """As the log within."""
        return self._inner.healthy

    @property
    def queue_length(self) -> int:
        """As the log within."""
        return self._inner.queue_length

    def admit(self) -> None:
        """As the log within."""
        self._inner.admit()

    async def append(self, record: GroupRecord) -> None:
        """As the log within."""
        with _stage(self._tracer, "log"):
            await self._inner.append(record)
