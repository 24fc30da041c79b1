"""The operators' routes to the group log: list it, look at one group, and review what a person should look at."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from gateway.http.body import read_body
from gateway.http.feedback import MAX_BODY_BYTES, GroupId, Labelling, author_label
from gateway.http.fields import convert, loads_object, query_of
from gateway.http.group_json import group_json, review_json, row_json
from router.enums import Route, Status
from router.errors import GroupNotFound, LogUnavailable
from router.log.index import GroupIndex
from router.log.labels import LabelSource, Note, Resolution
from router.log.lookups import Located, Page, list_groups, list_reviews, locate, read_group
from router.settings import Settings

T = TypeVar("T")

MAX_PAGE = 100
Limit = Annotated[int, Meta(ge=1, le=MAX_PAGE)]
Name = Annotated[str, Meta(min_length=1, max_length=128)]


class PageQuery(Struct, forbid_unknown_fields=True):
    """A page of a list, newest first; `after` is the last id of the page before."""

    limit: Limit = 20
    after: GroupId | None = None


class GroupsQuery(PageQuery, forbid_unknown_fields=True):
    """A page of the groups that have these values."""

    status: Status | None = None
    route: Route | None = None
    tenant: Name | None = None
    profile: Name | None = None


class Verdict(StrEnum):
    """What a reviewer says of the answer that was returned."""

    ACCEPT = "accept"
    REJECT = "reject"


class ReviewFields(Struct, forbid_unknown_fields=True):
    """The fields of a review."""

    verdict: Verdict
    note: Note | None = None


class GroupRoutes:
    """Reads the log through its index, one read at a time in this process, off the event loop."""

    def __init__(self, labelling: Labelling, settings: Settings) -> None:
        self._labelling, self._dir, self._index = labelling, settings.log.dir, GroupIndex(settings.log.dir)
        self._one_at_a_time = asyncio.Lock()
        asked = {f"{name}@{profile.version}": profile.review for name, profile in settings.profiles.items()}
        self._always = [name for name, review in asked.items() if review == "always"]
        self._unverified = [name for name, review in asked.items() if review == "unverified"]

    async def groups(self, request: Request) -> Response:
        """`GET /v1/groups`. Raises `InvalidRequest`, `NotAdmitted`, `LogUnavailable`."""
        asked = query_of(request, GroupsQuery, integers=("limit",))
        where = {name: value for name in ("status", "route", "tenant", "profile") if (value := getattr(asked, name))}
        page = Page(asked.limit, asked.after)
        return await self._listed(request, page, lambda db: [row_json(row) for row in list_groups(db, where, page)])

    async def group(self, request: Request) -> Response:
        """`GET /v1/groups/{group_id}`. Raises `GroupNotFound`, `NotAdmitted`, `LogUnavailable`, `RecordError`."""
        group_id = request.path_params["group_id"]
        async with self._labelling.visit(request) as headers:
            located = await self._locate(group_id)
            try:
                record = await asyncio.to_thread(read_group, self._dir, group_id, located)
            except OSError as error:
                raise LogUnavailable(f"the group cannot be read: {error.strerror or error}") from error
            if record is None:
                raise _unknown(group_id)
            return _json(group_json(record, located.labels), headers)

    async def reviews(self, request: Request) -> Response:
        """`GET /v1/reviews`. Raises `InvalidRequest`, `NotAdmitted`, `LogUnavailable`."""
        asked = query_of(request, PageQuery, integers=("limit",))
        page = Page(asked.limit, asked.after)

        def query(db: sqlite3.Connection) -> list[dict[str, Any]]:
            return [review_json(row) for row in list_reviews(db, self._always, self._unverified, page)]

        return await self._listed(request, page, query)

    async def review(self, request: Request) -> Response:
        """`POST /v1/reviews/{group_id}`. Raises `InvalidRequest`, `GroupNotFound`, `NotAdmitted`, `LogUnavailable`."""
        fields = convert(loads_object(await read_body(request, MAX_BODY_BYTES)), ReviewFields)
        group_id = request.path_params["group_id"]
        async with self._labelling.visit(request) as headers:
            await self._locate(group_id)
            label = msgspec.structs.replace(
                author_label(request.state.caller, group_id, LabelSource.REVIEW, time.time()),
                outcome=Resolution.SOLVED if fields.verdict is Verdict.ACCEPT else Resolution.NOT_SOLVED,
                note=fields.note,
            )
            return _json(await self._labelling.append(label), headers)

    async def _locate(self, group_id: str) -> Located:
        located, _ = await self._read(lambda db: locate(db, group_id))
        if located is None:
            raise _unknown(group_id)
        return located

    async def _listed(
        self, request: Request, page: Page, query: Callable[[sqlite3.Connection], list[dict[str, Any]]]
    ) -> Response:
        async with self._labelling.visit(request) as headers:
            rows, complete = await self._read(query)
            shown = rows[: page.limit]
            ends = (
                {"first_id": shown[0]["id"], "last_id": shown[-1]["id"]}
                if shown
                else {"first_id": None, "last_id": None}
            )
            more = {"has_more": len(rows) > page.limit, "complete": complete}
            return _json({"object": "list", "data": shown, **ends, **more}, headers)

    async def _read(self, query: Callable[[sqlite3.Connection], T]) -> tuple[T, bool]:
        async with self._one_at_a_time:
            return await asyncio.to_thread(self._index.read, query)


def _unknown(group_id: str) -> GroupNotFound:
    return GroupNotFound(f"there is no group {group_id[:64]!r} in the log", param="group_id")


def _json(body: Mapping[str, Any], headers: Mapping[str, str]) -> Response:
    return Response(msgspec.json.encode(body), media_type="application/json", headers=dict(headers))
