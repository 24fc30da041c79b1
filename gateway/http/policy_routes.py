"""The operators' routes to the policy registry: the commands `policies`, `promote` and `rollback` over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from gateway.http.body import read_body
from gateway.http.feedback import MAX_BODY_BYTES
from gateway.http.fields import convert, loads_object
from gateway.policies import BASE, PolicyDirectory, described, listing
from router.errors import BackendError, InvalidRequest, RegistryError
from router.registry import Champion, PolicyRegistry

F = TypeVar("F", bound="FlipFields")

_SHOWN = 50  # entries of the history


class FlipFields(Struct, forbid_unknown_fields=True):
    """The fields of a rollback; an empty body has none.

    With `expected_epoch` nothing happens unless the champion still is that epoch's.
    """

    reason: Annotated[str, Meta(max_length=1000)] = ""
    expected_epoch: Annotated[int, Meta(ge=0)] | None = None


class PromotionFields(FlipFields, forbid_unknown_fields=True):
    """The fields of a promotion: with a `share` the policy serves as a canary."""

    share: Annotated[float, Meta(gt=0, le=1)] = 1.0


class PolicyRoutes:
    """Reads and writes the registry off the event loop; this gateway follows at once, the others within two seconds."""

    def __init__(self, registry: PolicyRegistry, policies: PolicyDirectory) -> None:
        self._registry, self._policies = registry, policies

    async def policies(self, _: Request) -> Response:
        """`GET /v1/policies`, and the last of what happened to them, newest first.

        Raises `RegistryError`; `BackendUnavailable` while no engine has answered.
        """
        listed = await asyncio.to_thread(listing, self._registry, self._policies.base_model)
        history = (await asyncio.to_thread(self._registry.history))[: -_SHOWN - 1 : -1]
        return _json({"object": "list", "data": listed.pop("policies"), **listed, "history": history})

    async def promote(self, request: Request) -> Response:
        """`POST /v1/policies/{name}/promote`: the engine loads the policy, then it is the champion, or its canary.

        Raises `InvalidRequest`, `PolicyNotFound`, `PolicyConflict`, `RegistryError`, or `BackendError` when the engine
        cannot load it; then nothing changed.
        """
        fields = await _fields(request, PromotionFields)
        name = None if request.path_params["name"] == BASE else request.path_params["name"]
        if name is not None:
            await asyncio.to_thread(self._registry.get, name)
            await self._policies.ready(name)
        if fields.share < 1:
            if name is None:
                raise InvalidRequest("only a registered policy can be a canary", "share")
            return await self._flip(
                lambda actor: self._registry.try_out(name, fields.share, fields.reason, actor, fields.expected_epoch),
                request,
            )
        return await self._flip(
            lambda actor: self._registry.promote(name, fields.reason, actor, fields.expected_epoch), request
        )

    async def rollback(self, request: Request) -> Response:
        """`POST /v1/policies/rollback`. Raises `InvalidRequest`, `PolicyConflict`, `RegistryError`."""
        fields = await _fields(request, FlipFields)
        return await self._flip(
            lambda actor: self._registry.rollback(fields.reason, actor, fields.expected_epoch), request
        )

    async def _flip(self, flip: Callable[[str], Champion], request: Request) -> Response:
        champion = await asyncio.to_thread(flip, f"key {request.state.caller.key_id}")
        try:
            await self._policies.follow()
            followed = True
        except (BackendError, RegistryError):  # the flip stands; the watcher goes on trying, and says why it cannot
            followed = False
        return _json({"object": "champion", **described(champion), "serving": followed})


async def _fields(request: Request, kind: type[F]) -> F:
    body = await read_body(request, MAX_BODY_BYTES)
    return convert(loads_object(body), kind, integers=("expected_epoch",)) if body else kind()


def _json(body: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(body), media_type="application/json")
