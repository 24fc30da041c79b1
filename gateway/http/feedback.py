"""`POST /v1/feedback`: what became of an answer, appended as a label of its group."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from gateway.dependencies import Dependencies
from gateway.http.admission import Admission
from gateway.http.body import read_body
from gateway.http.fields import convert, loads_object
from gateway.tenants.keys import Caller, Role
from router.errors import InvalidRequest, LogUnavailable
from router.log.labels import Label, LabelSource, Minutes, Note, Rating, Resolution, Score, Team, append_label
from router.log.redaction import Redactor
from router.settings import Settings

MAX_BODY_BYTES = 64 * 1024
_CLOCK_SKEW_S = 300.0

GroupId = Annotated[str, Meta(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", max_length=36)]
Moment = Annotated[datetime, Meta(tz=True)] | Annotated[float, Meta(ge=0, le=2**40)]


class FeedbackFields(Struct, forbid_unknown_fields=True):
    """The fields of a feedback. `resolved_at` is RFC 3339 with its offset, or Unix seconds."""

    group_id: GroupId
    outcome: Resolution | None = None
    score: Score | None = None
    rating: Rating | None = None
    team: Team | None = None
    minutes_saved: Minutes | None = None
    resolved_at: Moment | None = None
    note: Note | None = None


class Labelling:
    """Appends labels under the caller's name. Nothing is looked up: whoever reads a label joins it to its group."""

    def __init__(self, deps: Dependencies, admission: Admission, settings: Settings) -> None:
        self._deps, self._admission, self._settings = deps, admission, settings
        self._redactor = Redactor(settings.log.redact)

    async def feedback(self, request: Request) -> Response:
        """Take one feedback. Raises `InvalidRequest`, `NotAdmitted` or `LogUnavailable`; `ClientGone`."""
        fields = convert(loads_object(await read_body(request, MAX_BODY_BYTES)), FeedbackFields, integers=("rating",))
        label = _label(fields, request.state.caller, time.time())
        async with self.visit(request) as headers:
            said = await self.append(label)
        return Response(msgspec.json.encode(said), media_type="application/json", headers=dict(headers))

    def visit(self, request: Request) -> AbstractAsyncContextManager[Mapping[str, str]]:
        """Hold what a request needs that draws no token; see `Admission.visit`."""
        return self._admission.visit(request, self._settings.server.deadline_s)

    async def append(self, label: Label) -> dict[str, Any]:
        """Put a label on disk; what to answer. Raises `LogUnavailable`."""
        self._deps.log.admit()
        try:
            await asyncio.to_thread(append_label, self._settings.log.dir, self._redactor.label(label))
        except OSError as error:
            raise LogUnavailable(f"the label is not on disk: {error.strerror or error}") from error
        self._deps.metrics.observe_label(label)
        return {"object": "label", "group_id": label.group_id, "source": label.source, "created": int(label.at)}


def author_label(caller: Caller, group_id: str, source: LabelSource, now: float) -> Label:
    """An empty label by this caller."""
    return Label(
        group_id=group_id, at=now, source=source, tenant=caller.tenant, author=caller.key_id,
        admin=caller.role is Role.ADMIN,
    )  # fmt: skip


def _label(fields: FeedbackFields, caller: Caller, now: float) -> Label:
    if fields.outcome is not None and fields.score is not None:
        raise InvalidRequest("outcome and score say the same: give one", param="score")
    resolved_at = fields.resolved_at.timestamp() if isinstance(fields.resolved_at, datetime) else fields.resolved_at
    if resolved_at is not None and not 0 <= resolved_at <= now + _CLOCK_SKEW_S:
        raise InvalidRequest("resolved_at lies in the future, or before 1970", param="resolved_at")
    said = {
        "outcome": fields.outcome,
        "score": fields.score,
        "rating": fields.rating,
        "minutes_saved": fields.minutes_saved,
        "resolved_at": resolved_at,
        "note": fields.note,
    }
    if all(value is None for value in said.values()):
        raise InvalidRequest(f"the feedback says nothing: give one of {', '.join(said)}")
    label = author_label(caller, fields.group_id, LabelSource.FEEDBACK, now)
    return msgspec.structs.replace(label, team=fields.team, **said)
