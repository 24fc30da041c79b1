"""`POST /v1/chat/completions`: the hot route, from bytes to bytes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.answer import Answer, Prepared
from gateway.call import ChatCall, Tenant
from gateway.cost import price_of
from gateway.dependencies import Dependencies
from gateway.http import render, sse
from gateway.http.admission import Admission, Admitted, Asking, LastWave
from gateway.http.body import ClientGone, read_body, until_disconnect
from gateway.http.http_errors import error_body, error_headers, status_of
from gateway.http.idempotency import Idempotency, Reply
from gateway.http.wire import PURPOSE_HEADER, TENANT_HEADER, parse_chat
from gateway.service import AnswerService
from gateway.tenants.keys import LOCAL, Caller
from gateway.tenants.metering import draw_bound, times
from router.enums import Purpose
from router.errors import InvalidRequest, LogUnavailable, NotAnswered, ThinkTwiceError
from router.settings import Settings
from router.verify.profiles import admit_profiles

JSON = "application/json"
_LARGE_BODY = 16 * 1024  # bytes; to admit the largest checks takes 0.3 s of processor time


@dataclass(slots=True)
class _Span:
    """One request being served: since when, and what it turned out to ask."""

    started: float = field(default_factory=time.perf_counter)
    call: ChatCall | None = None
    limits: dict[str, str] = field(default_factory=dict)  # headers that say what is left of the tenant's

    @property
    def duration_s(self) -> float:
        return time.perf_counter() - self.started

    @property
    def stream(self) -> bool:
        return self.call is not None and self.call.stream


class ChatRoute:
    """Handles chat requests and counts those that end in an error, or without their client."""

    def __init__(
        self,
        service: AnswerService,
        deps: Dependencies,
        admission: Admission,
        idempotency: Idempotency,
        settings: Settings,
    ) -> None:
        self._service, self._deps, self._settings = service, deps, settings
        self._admission, self._idempotency = admission, idempotency
        self._metrics, self._scorecard = deps.metrics, deps.scorecard
        self._profiles = admit_profiles(settings.profiles, settings.verify.timeout_s)

    async def __call__(self, request: Request) -> Response:
        """Answer one request. Raises `ThinkTwiceError`, which the application turns into an OpenAI error."""
        span = _Span()
        with self._metrics.in_flight():
            try:
                call = span.call = await self._parse(request)
                return await (self._stream if call.stream else self._whole)(request, call, span)
            except ClientGone:
                self._left(span)
                return Response(status_code=499)
            except ThinkTwiceError as error:
                self._failed(span, error)
                raise

    async def _parse(self, request: Request) -> ChatCall:
        caller: Caller = request.state.caller
        body = await read_body(request, self._settings.server.max_body_bytes)
        parse = partial(
            parse_chat,
            body,
            dict(reversed(request.headers.items())),  # the first of two of one name counts
            request_id=request.state.request_id,
            tenant=self._tenant(caller.tenant),
            settings=self._settings,
            profiles=self._profiles,
        )
        call = parse() if len(body) < _LARGE_BODY else await asyncio.to_thread(parse)
        if call.purpose is not Purpose.PROD:
            caller.require_admin(f"{PURPOSE_HEADER}: {call.purpose}")
        if call.replayed is not None and not self._tenant(call.replayed.tenant).train_consent:
            raise InvalidRequest(f"{call.replayed.tenant} does not allow training any more", TENANT_HEADER)
        caller.require_profile(call.spec.profile)
        return call

    def _tenant(self, name: str) -> Tenant:
        """Whoever runs the gateway for himself consents to train on it unless told not; others have to say so."""
        section = self._settings.tenants.get(name)
        consent = section.train_consent if section is not None else None
        return Tenant(name, train_consent=name == LOCAL.tenant if consent is None else consent)

    async def _whole(self, request: Request, call: ChatCall, span: _Span) -> Response:
        if call.retry_key is None:
            reply = await self._reply(request, call, span)
        else:
            compute = partial(self._final_reply, request, call, span)
            reply = await self._idempotency.once(call.tenant.name, call.retry_key, compute)
        headers = reply.headers | span.limits
        if reply.replayed:
            self._metrics.observe_replayed(reply.status, span.duration_s)
            headers = headers | {"Idempotent-Replayed": "true"}
        return Response(reply.body, reply.status, headers, JSON)

    async def _reply(self, request: Request, call: ChatCall, span: _Span) -> Reply:
        prepared = await self._service.prepare(call)
        async with self._admitted(request, prepared) as admitted:
            span.limits = dict(admitted.headers)
            answer = await until_disconnect(request, self._service.answer(prepared))
            admitted.count(answer)
        return Reply(200, render.answer_headers(answer), msgspec.json.encode(render.completion_json(answer, call)))

    async def _final_reply(self, request: Request, call: ChatCall, span: _Span) -> Reply:
        """As `_reply`. An answer that `on_failure` withholds is as final as any: a retry is told the same."""
        try:
            return await self._reply(request, call, span)
        except NotAnswered as error:
            return Reply(status_of(error), error_headers(error), msgspec.json.encode(error_body(error)))

    def _admitted(self, request: Request, prepared: Prepared) -> AbstractAsyncContextManager[Admitted]:
        call, deps = prepared.call, self._deps
        asking = Asking(
            tenant=call.tenant.name,
            draws=lambda: prepared.most_draws,
            bound=lambda: draw_bound(call.prompt, deps.engine, grows=call.spec.max_turns > 1),
            price=price_of(deps.prices, prepared.policy),
            deadline=prepared.deadline,
            last=self._last_wave(prepared),
        )
        return self._admission.admitted(request, asking)

    def _last_wave(self, prepared: Prepared) -> LastWave | None:
        larger = self._deps.larger
        if larger is None or (facts := larger.facts) is None or not prepared.escalable:
            return None
        turns = prepared.call.spec.max_turns
        bound = partial(draw_bound, prepared.call.prompt, facts, grows=turns > 1)
        return LastWave(lambda: times(bound(), turns), larger.price)

    async def _stream(self, request: Request, call: ChatCall, span: _Span) -> Response:
        """The first item is awaited before the status goes out, so that an early failure keeps its status code."""
        prepared = await self._service.prepare(call)
        async with AsyncExitStack() as stack:
            admitted = await stack.enter_async_context(self._admitted(request, prepared))
            items = sse.items(self._service, prepared, self._settings.server.keepalive_s)
            first = await until_disconnect(request, anext(items))
            headers = render.answer_headers(first) if isinstance(first, Answer) else render.early_headers(prepared)
            headers |= admitted.headers
            headers["Cache-Control"] = "no-cache"
            headers["X-Accel-Buffering"] = "no"  # nginx would hold the tokens back
            events = sse.EventStream(first, items, prepared, partial(self._failed, span))
            stack.enter_context(self._streaming(span, events, admitted))
            return sse.EventResponse(events, items, headers, during=stack.pop_all())

    @contextmanager
    def _streaming(self, span: _Span, events: sse.EventStream, admitted: Admitted) -> Iterator[None]:
        """In flight until the last byte. A stream that ended before it was counted was left by its client."""
        with self._metrics.in_flight():
            yield
        if events.answer is not None:
            admitted.count(events.answer)
        if not events.settled:
            self._left(span)

    def _left(self, span: _Span) -> None:
        self._metrics.observe_cancelled(span.duration_s, span.stream)

    def _failed(self, span: _Span, error: ThinkTwiceError) -> None:
        """Count an error. One of `on_failure` was counted as an answer: it was drawn, judged and withheld."""
        if isinstance(error, NotAnswered):
            return
        code = status_of(error)
        self._metrics.observe_error(code, span.duration_s, span.stream)
        if isinstance(error, LogUnavailable):
            self._metrics.observe_log_refused()
        if span.call is None or span.call.purpose is Purpose.PROD:
            self._scorecard.record_error(code)
