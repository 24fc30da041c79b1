"""The wire format of a chat request: strict JSON in, a `ChatCall` out. A field is honoured or refused, not ignored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Annotated, Any

from msgspec import Meta, Struct

from gateway.call import ChatCall, Replayed, RetryKey, Tenant
from gateway.http.client_timeout import client_timeout_s
from gateway.http.fields import convert, loads_object
from router.domain import Prompt, Sampling
from router.enums import Effort, Purpose
from router.errors import InvalidRequest
from router.rotation import rotated
from router.settings import Settings
from router.verify.judging import with_question
from router.verify.merge import merge
from router.verify.profiles import Profiles

PROFILE_HEADER = "x-verification-profile"
PURPOSE_HEADER = "x-thinktwice-purpose"
GROUP_HEADER, TENANT_HEADER = "x-thinktwice-group", "x-thinktwice-tenant"  # of a replay: what is drawn again
PURPOSES = (Purpose.EVAL, Purpose.REPLAY)  # that a caller may claim

Probability = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]


class StreamOptions(Struct, forbid_unknown_fields=True):
    """OpenAI's `stream_options`."""

    include_usage: bool | None = False


class ChatFields(Struct, forbid_unknown_fields=True):
    """The fields of a chat request, each with its admitted range; null leaves the engine's default."""

    model: str
    messages: Annotated[list[dict[str, Any]], Meta(min_length=1)]
    # Sampling
    temperature: Annotated[float, Meta(ge=0)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=2**31)] | None = None
    min_p: Probability | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Meta(gt=0)] | None = None
    seed: Seed | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    # Shape of the answer, sent on as they are
    stop: str | list[str] | None = None
    logit_bias: dict[str, float] | None = None
    response_format: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    user: str | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool | None = None
    min_tokens: Annotated[int, Meta(ge=0)] | None = None
    include_stop_str_in_output: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    # Ours to interpret
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logprobs: bool | None = None
    reasoning_effort: Effort | None = None
    verification: dict[str, Any] | None = None


_OPTIONS = (
    "stop",
    "logit_bias",
    "response_format",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "user",
    "stop_token_ids",
    "ignore_eos",
    "min_tokens",
    "include_stop_str_in_output",
    "top_logprobs",
)
_TOOL_FIELDS = ("tools", "tool_choice", "parallel_tool_calls")
_INTEGERS = ("top_k", "seed", "max_tokens", "max_completion_tokens", "min_tokens", "top_logprobs", "n")
_SAMPLING = tuple(name for name in Sampling.__slots__ if name != "max_tokens")
_RETRY_KEY = re.compile(r'"([ -!#-~]{1,255})"|([!#-~]{1,255})')  # a structured-field string, or bare as many send it
_OPEN_IT = "; an operator can open it with [backend] allow_fields"


def parse_chat(
    body: bytes,
    headers: Mapping[str, str],
    *,
    request_id: str,
    tenant: Tenant,
    settings: Settings,
    profiles: Profiles,
) -> ChatCall:
    """Parse and admit one chat request, its headers by lower-case name. Raises `InvalidRequest`, naming the field."""
    raw = loads_object(body)
    opened = {name: raw.pop(name) for name in settings.backend.allow_fields if name in raw}
    fields = convert(raw, ChatFields, integers=_INTEGERS, cure=_OPEN_IT)
    _check_messages(fields.messages)
    options = {name: value for name in _OPTIONS if (value := getattr(fields, name)) is not None} | opened
    effort = fields.reasoning_effort or Effort.MEDIUM
    if fields.reasoning_effort is not None and settings.backend.forward_reasoning_effort:
        options["reasoning_effort"] = fields.reasoning_effort.value
    if options.get("top_logprobs") and not fields.logprobs:
        raise InvalidRequest("top_logprobs needs logprobs: true", param="top_logprobs")
    spec = merge(
        fields.verification,
        headers.get(PROFILE_HEADER),
        profiles,
        # With n above 1 nothing is elected, so that there is nothing to check: the engine's grammar alone holds.
        options.get("response_format") if (fields.n or 1) == 1 else None,
        settings.verify.timeout_s,
    )
    if (fields.n or 1) > 1 and spec.checks:
        raise InvalidRequest("n above 1 cannot be combined with checks: use verification.samples", param="n")
    if spec.tools:
        _refuse_own_tools(fields)
    if fields.stream_options is not None and not fields.stream:
        raise InvalidRequest("stream_options needs stream: true", param="stream_options")
    prompt = Prompt(tuple(fields.messages), options, _sampling(fields))
    spec = rotated(spec, settings.verify.rotate, prompt)
    purpose = _purpose(headers)
    return ChatCall(
        request_id=request_id,
        tenant=tenant,
        model=fields.model,
        prompt=prompt,
        spec=with_question(spec, prompt),
        effort=effort,
        stream=bool(fields.stream),
        include_usage=fields.stream_options is not None and bool(fields.stream_options.include_usage),
        n=fields.n or 1,
        logprobs=bool(fields.logprobs),
        no_store="no-store" in headers.get("cache-control", "").lower(),
        purpose=purpose,
        replayed=_replayed(headers) if purpose is Purpose.REPLAY else None,
        timeout_s=client_timeout_s(headers, stream=bool(fields.stream)),
        retry_key=_retry_key(headers, body, stream=bool(fields.stream)),
    )


def _check_messages(messages: list[dict[str, Any]]) -> None:
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if not isinstance(message.get("role"), str):
            raise InvalidRequest(f"{where}.role must be a string", param=f"{where}.role")
        content = message.get("content")
        if not isinstance(content, str | list | None):
            raise InvalidRequest(f"{where}.content must be a string or a list of parts", param=f"{where}.content")
        for part in content if isinstance(content, list) else ():
            if not isinstance(part, dict) or not isinstance(part.get("type"), str):
                raise InvalidRequest(f"{where}.content holds a part without a type", param=f"{where}.content")
            if "text" in part and not isinstance(part["text"], str):
                raise InvalidRequest(f"{where}.content holds a text part that is no string", param=f"{where}.content")


def _refuse_own_tools(fields: ChatFields) -> None:
    """A profile's tools run here and the client's at the client: one conversation cannot have both."""
    for name in _TOOL_FIELDS:
        if getattr(fields, name) is not None:
            raise InvalidRequest(f"{name} cannot be given beside a profile that brings its own tools", param=name)
    if (fields.n or 1) > 1:
        raise InvalidRequest("n above 1 cannot be combined with a profile's tools: use verification.samples", param="n")


def _sampling(fields: ChatFields) -> Sampling:
    if (
        None not in (fields.max_tokens, fields.max_completion_tokens)
        and fields.max_tokens != fields.max_completion_tokens
    ):
        raise InvalidRequest("max_tokens and max_completion_tokens differ: give one", param="max_tokens")
    settings: dict[str, Any] = {name: getattr(fields, name) for name in _SAMPLING}
    return Sampling(**settings, max_tokens=fields.max_completion_tokens or fields.max_tokens)


def _purpose(headers: Mapping[str, str]) -> Purpose:
    given = headers.get(PURPOSE_HEADER)
    if given is None:
        return Purpose.PROD
    if given not in PURPOSES:
        raise InvalidRequest(f"{PURPOSE_HEADER} can only be {' or '.join(PURPOSES)}", param=PURPOSE_HEADER)
    return Purpose(given)


def _replayed(headers: Mapping[str, str]) -> Replayed:
    group_id, tenant = headers.get(GROUP_HEADER), headers.get(TENANT_HEADER)
    if not group_id or not tenant:
        raise InvalidRequest(
            f"a replay needs {GROUP_HEADER} and {TENANT_HEADER}: what is drawn again", param=PURPOSE_HEADER
        )
    return Replayed(group_id, tenant)


def _retry_key(headers: Mapping[str, str], body: bytes, *, stream: bool) -> RetryKey | None:
    """The `Idempotency-Key` with a digest of all that the answer depends on: the body as sent, and our headers."""
    given = headers.get(RetryKey.HEADER.lower())
    if given is None:
        return None
    found = _RETRY_KEY.fullmatch(given.strip())
    if found is None:
        raise InvalidRequest(f"{RetryKey.HEADER} must be 1 to 255 printable ASCII characters", RetryKey.HEADER)
    if stream:
        raise InvalidRequest(
            f"{RetryKey.HEADER} cannot be honoured for a stream: send stream: false, or leave it out", RetryKey.HEADER
        )
    digest = blake2b(body, digest_size=32)
    for name in (PROFILE_HEADER, PURPOSE_HEADER, GROUP_HEADER, TENANT_HEADER):
        digest.update(b"\0" + headers.get(name, "").encode())
    return RetryKey(found[1] or found[2], digest.digest())
