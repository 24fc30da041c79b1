"""Traces: one span a stage, of one trace, with names and verdicts and no text."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    StatusCode,
    TraceFlags,
    Tracer,
    get_current_span,
    use_span,
)  # fmt: skip

from gateway.bootstrap.tracing import TracedChat, open_tracer, trace
from gateway.service import AnswerService
from router.domain import CheckResult, CheckSpec
from router.errors import BackendUnavailable, ConfigError
from tests.support.asgi import application, post
from tests.support.builders import check_spec
from tests.support.fakes import Line, TextVerifier
from tests.support.serving import Serving, serving

TRACE = 0x0AF7651916CD43DD8448EB211C80319C
CHECKED = {"checks": [{"type": "exact", "reference": "secret reference"}]}


class Recorded(NonRecordingSpan):
    """A span that keeps what it is told."""

    def __init__(self, name: str, parent: SpanContext, number: int, attributes: Mapping[str, Any]) -> None:
        super().__init__(SpanContext(parent.trace_id or TRACE + 1, number, False, TraceFlags(1)))
        self.name, self.parent, self.attributes = name, parent, dict(attributes)
        self.ended, self.failed = False, False

    def set_attribute(self, key: str, value: Any) -> None:
        self.attributes[key] = value

    def set_status(self, status: Any, description: str | None = None) -> None:
        self.failed = status is StatusCode.ERROR

    def end(self, end_time: int | None = None) -> None:
        self.ended = True


class ListTracer(Tracer):
    """Keeps its spans in a list."""

    def __init__(self) -> None:
        self.spans: list[Recorded] = []

    def start_span(self, name: str, context: Context | None = None, **given: Any) -> Recorded:  # type: ignore[override]
        parent = get_current_span(context).get_span_context()
        span = Recorded(name, parent, len(self.spans) + 1, given.get("attributes") or {})
        self.spans.append(span)
        return span

    @contextmanager
    def start_as_current_span(self, name: str, **given: Any) -> Iterator[Span]:  # type: ignore[override]
        span = self.start_span(name, given.get("context"), attributes=given.get("attributes"))
        with use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            yield span

    def named(self, name: str) -> list[Recorded]:
        return [span for span in self.spans if span.name == name]


class ReadingVerifier(TextVerifier):
    """Passes the text `right`, whatever the check."""

    async def verify(self, checks: Sequence[CheckSpec], text: str) -> tuple[CheckResult, ...]:
        return await super().verify([check_spec("right", id=check.id) for check in checks], text)


@pytest.fixture
def tracer() -> ListTracer:
    return ListTracer()


def traced(gateway: Serving, tracer: Tracer) -> Any:
    """The application with every port and the chat route in spans."""
    trace(gateway.deps, tracer)
    again = dataclasses.replace(gateway, service=AnswerService(gateway.deps))
    return application(again, around=lambda chat: TracedChat(chat, tracer))


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "champion", "messages": [{"role": "user", "content": "a private question"}], **fields}


async def test_every_stage_of_a_vote_is_a_span_of_the_callers_trace(tmp_path: Path, tracer: ListTracer) -> None:
    app = traced(serving(tmp_path, "right", "wrong", verifier=ReadingVerifier()), tracer)
    asked = chat(verification=CHECKED | {"samples": {"min": 2, "max": 2}}, reasoning_effort="high")
    headers = {"traceparent": f"00-{TRACE:032x}-b7ad6b7169203331-01"}
    answered = await post(app, asked, headers=headers)
    assert answered.status == 200
    [request] = tracer.named("request")
    assert request.get_span_context().trace_id == TRACE and all(span.ended for span in tracer.spans)
    stages = {name: len(tracer.named(name)) for name in ("cache", "engine", "verify", "log")}
    assert stages["log"] == 1 and stages["engine"] == stages["verify"] == 2 and stages["cache"] >= 1, stages
    assert all(span.parent.span_id == request.get_span_context().span_id for span in tracer.spans[1:])
    assert request.attributes["thinktwice.route"] == "vote"
    assert request.attributes["thinktwice.group_id"] == answered.json["verification"]["group_id"]
    told = repr([span.attributes for span in tracer.spans])
    assert "private" not in told and "secret" not in told and "right" not in told


async def test_a_stream_has_its_engine_span(tmp_path: Path, tracer: ListTracer) -> None:
    answered = await post(traced(serving(tmp_path, "a story"), tracer), chat(stream=True))
    assert answered.status == 200 and answered.body.endswith(b"data: [DONE]\n\n")
    [engine] = tracer.named("engine")
    assert engine.ended and engine.attributes["gen_ai.request.model"] == "base" and not engine.failed


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_is_kept_by_its_class(tmp_path: Path, tracer: ListTracer, stream: bool) -> None:
    fault = BackendUnavailable("the engine quotes a private question")
    answered = await post(traced(serving(tmp_path, Line("", error=fault)), tracer), chat(stream=stream))
    # A stream that breaks after its first item has ended its request's span.
    assert answered.status == (200 if stream else 503)
    for name in ("engine",) if stream else ("request", "engine"):
        [span] = tracer.named(name)
        assert span.failed and span.ended and span.attributes["error.type"] == "BackendUnavailable"
    assert "private" not in repr([span.attributes for span in tracer.spans])


@pytest.mark.skipif(importlib.util.find_spec("opentelemetry.sdk") is not None, reason="the extra `otel` is installed")
async def test_without_the_extra_it_says_what_to_install() -> None:
    async with AsyncExitStack() as stack:
        with pytest.raises(ConfigError, match=r"thinktwice\[otel\]"):
            open_tracer(stack, "http://127.0.0.1:4318/v1/traces")
