"""Asking a gateway through the official OpenAI SDK: one question, one answer with its verification."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
import openai

from router.enums import Reason, Status
from router.errors import ConfigError, TrainingError

TIMEOUT_S = 600.0
_HOPELESS = (401, 403, 404)  # the next request would end the same way
_NOT_SOLVED = (Reason.ALL_FAILED, Reason.VETO, Reason.TRUNCATED)
T = TypeVar("T")


class NoAnswer(Exception):
    """One request ended without an answer; the message is a short name of the reason, to be counted."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one policy made of one question."""

    text: str
    policy: str  # that the gateway says answered
    solved: bool | None  # None: the checks did not come to a judgement
    reason: str
    samples: int
    prompt_tokens: int
    completion_tokens: int  # of all samples
    truncated: bool  # the returned answer was cut off at its token limit
    cost_usd: float | None
    seconds: float  # from the request to the whole answer

    @property
    def tokens(self) -> int:
        """All tokens of all samples."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def length(self) -> float:
        """Mean completion tokens of a sample."""
        return self.completion_tokens / self.samples


class _Verification(msgspec.Struct, frozen=True):
    status: Status
    reason: Reason
    policy: str
    samples: int
    cost_usd: float | None = None


class _Message(msgspec.Struct, frozen=True):
    content: str | None = None


class _Choice(msgspec.Struct, frozen=True):
    message: _Message = _Message()
    finish_reason: str | None = None


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int
    completion_tokens: int


class _Completion(msgspec.Struct, frozen=True):
    choices: list[_Choice]
    usage: _Usage
    verification: _Verification


class _Model(msgspec.Struct, frozen=True):
    id: str


class _Models(msgspec.Struct, frozen=True):
    data: list[_Model]


def base_url(url: str) -> str:
    """The root of the API at `url`, given with or without `/v1`. Raises `ConfigError` for what is no HTTP URL."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{url} is not the URL of a gateway: give one such as http://127.0.0.1:8000")
    return url.rstrip("/").removesuffix("/v1") + "/v1"


def connect(url: str) -> openai.AsyncOpenAI:
    """A client of the gateway at `url`. Raises `ConfigError` for what is no HTTP URL."""
    key = os.environ.get("THINKTWICE_API_KEY") or "unused"  # a gateway without keys takes any
    return openai.AsyncOpenAI(base_url=base_url(url), api_key=key, max_retries=0, timeout=TIMEOUT_S)


async def served_names(client: openai.AsyncOpenAI) -> frozenset[str]:
    """The model names that the gateway takes. Raises `TrainingError` when there is no gateway."""
    try:
        response = await client.models.with_raw_response.list()
    except openai.APIError as error:
        why = f"no gateway answers at {client.base_url} ({_name(error)})"
        raise TrainingError(f"{why}: start it with `thinktwice up` or `thinktwice serve`, or give its URL") from error
    return frozenset(model.id for model in _decoded(response.content, _Models).data)


async def ask(client: openai.AsyncOpenAI, body: Mapping[str, Any]) -> Answer:
    """Send one chat request, `body` being the SDK call's arguments.

    Raises `NoAnswer` for a request that ended in an error, and `TrainingError` when the next one would end the same
    way: an unknown policy, no permission, a server that is no gateway.
    """
    started = time.perf_counter()
    try:
        response = await client.chat.completions.with_raw_response.create(**body)
    except openai.APIError as error:
        if isinstance(error, openai.APIStatusError) and error.status_code in _HOPELESS:
            why = f"the gateway refused {body['model']} ({_name(error)}): {' '.join(error.message.split())}"
            raise TrainingError(why) from error
        raise NoAnswer(_name(error)) from error
    completion = _decoded(response.content, _Completion)
    verification, usage = completion.verification, completion.usage
    return Answer(
        text=completion.choices[0].message.content or "" if completion.choices else "",
        policy=verification.policy,
        solved=_solved(verification),
        reason=verification.reason.value,
        samples=max(verification.samples, 1),
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        truncated=any(choice.finish_reason == "length" for choice in completion.choices),
        cost_usd=verification.cost_usd,
        seconds=time.perf_counter() - started,
    )


def _solved(verification: _Verification) -> bool | None:
    """Unverified for a reason of the gateway's own (a check that broke, a deadline) is neither."""
    if verification.status is Status.VERIFIED:
        return True
    return False if verification.reason in _NOT_SOLVED else None


def _decoded(content: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise TrainingError(f"the server is no thinktwice gateway ({error}): give another URL") from error


def _name(error: openai.APIError) -> str:
    if isinstance(error, openai.APITimeoutError):
        return "timeout"
    if isinstance(error, openai.APIConnectionError):
        return "connection"
    status = str(error.status_code) if isinstance(error, openai.APIStatusError) else "protocol"
    return f"{status} {error.code}" if error.code else status
