"""The OpenAPI 3.1 description of the HTTP interface, made from what the routes themselves parse and refuse by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

import msgspec

from gateway.call import RetryKey
from gateway.http.feedback import FeedbackFields
from gateway.http.groups import GroupsQuery, PageQuery, ReviewFields
from gateway.http.http_errors import SHAPES
from gateway.http.passthrough import ROUTES
from gateway.http.policy_routes import FlipFields, PromotionFields
from gateway.http.wire import PROFILE_HEADER, PURPOSE_HEADER, ChatFields
from router.enums import OnFailure, Purpose, Reason, Route, Status, Stopped
from router.verify.registry import CHECK_TYPES

Schema = dict[str, Any]

_REF = "#/components/schemas/{name}"
_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_LABELLED = (400, 401, 403, 413, 429, 503)
_READ = (401, 403, 404, 429, 500, 503)
_PART: Schema = {"type": "object", "properties": {"type": _TEXT, "text": _TEXT}, "required": ["type"]}


def document() -> Schema:
    """The whole description, as it is served at `/openapi.json`. Fields opened by the operator are not in it."""
    _, parsed = msgspec.json.schema_components(
        [ChatFields, FeedbackFields, ReviewFields, FlipFields, PromotionFields], ref_template=_REF
    )
    chat = parsed["ChatFields"]["properties"]
    chat["messages"]["items"] = _ref("Message")
    chat["verification"] = {"anyOf": [_ref("VerificationRequest"), {"type": "null"}], "default": None}
    chat_responses = {"200": _answer("ChatCompletion", stream=True), **_errors()}
    return {
        "openapi": "3.1.0",
        "info": {"title": "thinktwice", "version": version("thinktwice")},
        "security": [{}, {"key": []}],
        "paths": {
            "/v1/chat/completions": {
                "post": _operation("ChatFields", chat_responses)
                | {"parameters": [_profile(), _purpose(), _cache(), _retry()]}
            },
            **{path: {"post": _passed_on(path, fields)} for path, fields in ROUTES.items()},
            "/v1/feedback": {"post": _operation("FeedbackFields", {"200": _answer("Label"), **_errors(*_LABELLED)})},
            **_operators(),
            "/v1/models": {"get": {"responses": {"200": _answer("ModelList"), **_errors(401)}}},
            "/v1/scorecard": {"get": {"responses": {"200": _answer("Object"), **_errors(401)}}},
            "/console": {"get": {"responses": {"200": _content("text/html", _TEXT)}}},
            "/console/{file}": {
                "get": {
                    "parameters": [_in_path("file")],
                    "responses": {"200": _content("text/*", _TEXT), **_errors(404)},
                }
            },
            "/metrics": {"get": {"responses": {"200": _content("text/plain", _TEXT), **_errors(401, 403)}}},
            "/healthz": {"get": {"responses": {"200": _answer("Object")}}},
            "/readyz": {"get": {"responses": {"200": _answer("Ready"), "503": _answer("Ready")}}},
            "/openapi.json": {"get": {"responses": {"200": _answer("Object"), **_errors(401)}}},
        },
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {**parsed, **_requests(), **_responses()},
        },
    }


def _operators() -> Schema:
    """The routes for administrators."""
    flip = {"200": _answer("Object"), **_errors()}
    return {
        "/v1/groups": {"get": _list(GroupsQuery)},
        "/v1/groups/{group_id}": {
            "get": {"parameters": [_in_path("group_id")], "responses": {"200": _answer("Object"), **_errors(*_READ)}}
        },
        "/v1/reviews": {"get": _list(PageQuery)},
        "/v1/reviews/{group_id}": {
            "post": _operation("ReviewFields", {"200": _answer("Label"), **_errors(*_LABELLED, *_READ)})
            | {"parameters": [_in_path("group_id")]}
        },
        "/v1/policies": {"get": {"responses": {"200": _answer("Object"), **_errors(401, 403, 500, 503)}}},
        "/v1/policies/rollback": {"post": _operation("FlipFields", flip, required=False)},
        "/v1/policies/{name}/promote": {
            "post": _operation("PromotionFields", flip, required=False) | {"parameters": [_in_path("name")]}
        },
    }


def _list(query: type[msgspec.Struct]) -> Schema:
    """A page of a list: its query is what the route parses."""
    (_,), parsed = msgspec.json.schema_components([query], ref_template=_REF)
    parameters = [
        {"name": name, "in": "query", "schema": _given(schema, parsed)}
        for name, schema in parsed[query.__name__]["properties"].items()
    ]
    return {"parameters": parameters, "responses": {"200": _answer("List"), **_errors(400, *_READ)}}


def _given(schema: Schema, parsed: Schema) -> Schema:
    """The schema of a value in a query, which may be left out and is never null."""
    options = [option for option in schema.get("anyOf", [schema]) if option.get("type") != "null"]
    (option,) = (parsed[each["$ref"].rpartition("/")[2]] if "$ref" in each else each for each in options)
    return {name: value for name, value in option.items() if name not in ("default", "title", "description")}


def _in_path(name: str) -> Schema:
    return {"name": name, "in": "path", "required": True, "schema": _TEXT}


def _passed_on(path: str, fields: Iterable[str]) -> Schema:
    """A request whose values are the engine's to judge: only its field names and the model are ours."""
    known: Schema = {name: {} for name in sorted(fields)} | {"model": _TEXT}
    body = {"type": "object", "properties": known, "required": ["model"], "additionalProperties": False}
    responses = {"200": _answer("Object", stream=path == "/v1/completions"), **_errors()}
    return {"requestBody": _body(body), "responses": responses}


def _operation(request: str, responses: Schema, *, required: bool = True) -> Schema:
    return {"requestBody": _body(_ref(request), required), "responses": responses}


def _body(schema: Schema, required: bool = True) -> Schema:
    return {"required": required, "content": {"application/json": {"schema": schema}}}


def _content(media_type: str, schema: Schema) -> Schema:
    return {"description": "", "content": {media_type: {"schema": schema}}}


def _answer(name: str, *, stream: bool = False) -> Schema:
    answer = _content("application/json", _ref(name))
    if stream:
        answer["content"]["text/event-stream"] = {"schema": _ref("Event")}
    return answer


def _errors(*statuses: int) -> Schema:
    """The errors of a route; without `statuses` all of ours, and the engine's refusals, which keep their own."""
    named: Mapping[str, int] = {str(status): status for status in statuses or {s.status for s in SHAPES.values()}}
    return {key: _answer("Error") for key in sorted([*named, *(() if statuses else ("4XX", "5XX"))])}


def _profile() -> Schema:
    schema = {"type": "string", "minLength": 1}
    return {"name": PROFILE_HEADER, "in": "header", "schema": schema, "description": "A profile, for a fixed body."}


def _purpose() -> Schema:
    """`replay` is the trainer's own: it names a logged group, which no schema can."""
    return {"name": PURPOSE_HEADER, "in": "header", "schema": {"enum": [Purpose.EVAL.value]}}


def _cache() -> Schema:
    return {"name": "cache-control", "in": "header", "schema": _TEXT, "description": "no-store: ask the model anew."}


def _retry() -> Schema:
    description = "Names the request, so that it is computed once however often it is sent."
    return {"name": RetryKey.HEADER.lower(), "in": "header", "schema": _TEXT, "description": description}


def _requests() -> Schema:
    content = {"anyOf": [_TEXT, {"type": "array", "items": _PART}, {"type": "null"}]}
    message = {"type": "object", "properties": {"role": _TEXT, "content": content}, "required": ["role"]}
    # Each type's own fields are on its page under docs/checks.
    check = {"type": "object", "properties": {"type": {"enum": sorted(CHECK_TYPES)}}, "required": ["type"]}
    count = {"type": "integer", "minimum": 1, "maximum": 5}
    verification = {
        "profile": {"anyOf": [_TEXT, {"type": "null"}]},
        "samples": _closed({"min": count, "max": count}),
        "on_failure": _enum(OnFailure),
        "checks": {"type": "array", "items": check},
    }
    return {"Message": message, "VerificationRequest": _closed(verification)}


def _responses() -> Schema:
    error = _open({"message": _TEXT, "type": _TEXT, "param": {}, "code": {}})
    usage = _open({"prompt_tokens": _COUNT, "completion_tokens": _COUNT, "total_tokens": _COUNT})
    choice = _open({"index": _COUNT, "message": _open({"role": _TEXT}), "finish_reason": {}})
    verification = {
        "status": _enum(Status),
        "reason": _enum(Reason),
        "route": _enum(Route),
        "stopped": _enum(Stopped),
        "escalated": {"type": "boolean"},
        "cached": {"type": "boolean"},
        "samples": _COUNT,
        "votes": _COUNT,
        "agreement": {"type": "number", "minimum": 0, "maximum": 1},
        "difficulty": {"type": "number", "minimum": 0, "maximum": 1},
        "checks": {"type": "array", "items": _open({"id": _TEXT, "type": _TEXT, "class": _TEXT, "outcome": _TEXT})},
        "group_id": _TEXT,
        "policy": _TEXT,
        "cost_usd": {"anyOf": [{"type": "number", "minimum": 0}, {"type": "null"}]},
    }
    completion = {
        "id": _TEXT,
        "object": {"const": "chat.completion"},
        "created": _COUNT,
        "model": _TEXT,
        "choices": {"type": "array", "items": choice, "minItems": 1},
        "usage": usage,
        "verification": _ref("Verification"),
    }
    card = _open({"id": _TEXT, "object": {"const": "model"}, "created": _COUNT, "owned_by": _TEXT})
    return {
        "Object": {"type": "object"},
        "Error": _open({"error": error}),
        "Event": _open({"data": _TEXT}),  # of server-sent events, each a chunk in JSON, an error, or [DONE]
        "Verification": _open(verification),
        "ChatCompletion": _open(completion),
        "List": _open({"object": {"const": "list"}, "data": {"type": "array", "items": _ref("Object")}}),
        "Label": _open({"object": {"const": "label"}, "group_id": _TEXT, "source": _TEXT, "created": _COUNT}),
        "ModelList": _open({"object": {"const": "list"}, "data": {"type": "array", "items": card}}),
        "Ready": _open({"ready": {"type": "boolean"}, "degraded": {"type": "array", "items": _TEXT}}),
    }


def _ref(name: str) -> Schema:
    return {"$ref": _REF.format(name=name)}


def _enum(kind: Iterable[Any]) -> Schema:
    return {"enum": [member.value for member in kind]}


def _open(properties: Schema) -> Schema:
    """An object that has these fields and may have more."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def _closed(properties: Schema) -> Schema:
    """An object that may have these fields and no other."""
    return {"type": "object", "properties": properties, "additionalProperties": False}
