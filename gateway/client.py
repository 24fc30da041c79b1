"""Talking to a running gateway through the official OpenAI SDK: what `ask` and `bench` share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import openai

from router.errors import ConfigError, ThinkTwiceError

API_KEY_VARIABLE = "THINKTWICE_API_KEY"
DEFAULT_MODEL = "champion"
TIMEOUT_S = 600.0
# Headers of a request that is never cached, and kept out of training and scorecard.
EVALUATION: Mapping[str, str] = MappingProxyType({"Cache-Control": "no-store", "X-Thinktwice-Purpose": "eval"})


@dataclass(frozen=True, slots=True)
class Reply:
    """A chat completion with its verification, as the gateway sent them."""

    text: str | None
    refusal: str | None
    finish_reason: str | None
    verification: Mapping[str, Any]
    prompt_tokens: int
    completion_tokens: int
    model: str

    @property
    def tokens(self) -> int:
        """All tokens of all samples."""
        return self.prompt_tokens + self.completion_tokens


def base_url(url: str) -> str:
    """The SDK's base URL of a gateway given with or without `/v1`. Raises `ConfigError` for what is no HTTP URL."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{url} is not the URL of a gateway: give one such as http://127.0.0.1:8000")
    return url.rstrip("/").removesuffix("/v1") + "/v1"


def connect(url: str) -> openai.OpenAI:
    """A client of the gateway at `url` that never retries. Raises `ConfigError`.

    The API key is the environment's `THINKTWICE_API_KEY`: a command line can be seen by every user of the machine, and
    `OPENAI_API_KEY` may be another server's.
    """
    return openai.OpenAI(base_url=base_url(url), api_key=_api_key(), max_retries=0, timeout=TIMEOUT_S)


def connect_async(url: str) -> openai.AsyncOpenAI:
    """As `connect`, for asyncio."""
    return openai.AsyncOpenAI(base_url=base_url(url), api_key=_api_key(), max_retries=0, timeout=TIMEOUT_S)


def _api_key() -> str:
    return os.environ.get(API_KEY_VARIABLE) or "unused"  # the SDK insists on one; a gateway without keys ignores it


@contextmanager
def one_line_errors(url: str) -> Iterator[None]:
    """Turn the SDK's errors into a `ThinkTwiceError` of one line with the cure."""
    try:
        yield
    except openai.APITimeoutError as error:
        raise ThinkTwiceError(f"the gateway at {url} gave no answer within {TIMEOUT_S:.0f} s") from error
    except openai.APIConnectionError as error:
        raise ThinkTwiceError(f"no gateway at {url}: start it with `thinktwice up`, or give --url") from error
    except openai.AuthenticationError as error:
        raise ThinkTwiceError(f"{error_message(error)}: put a key into the variable {API_KEY_VARIABLE}") from error
    except openai.APIStatusError as error:
        raise ThinkTwiceError(
            f"the gateway refused the request ({error_code(error)}): {error_message(error)}"
        ) from error
    except openai.APIError as error:
        raise ThinkTwiceError(f"the gateway ended the answer with an error: {error_message(error)}") from error


def error_code(error: openai.APIError) -> str:
    """A short name of what went wrong: the HTTP status and the error object's `code`, `timeout`, or `connection`."""
    if isinstance(error, openai.APITimeoutError):
        return "timeout"
    if isinstance(error, openai.APIConnectionError):
        return "connection"
    status = str(error.status_code) if isinstance(error, openai.APIStatusError) else "stream"
    return f"{status} {error.code}" if error.code else status


def reply_of(completion: Any) -> Reply:
    """Unwrap a whole chat completion. Raises `ThinkTwiceError` when the server sends no `verification`: no gateway."""
    verification = verification_of(completion)
    choice, usage = completion.choices[0], completion.usage
    return Reply(
        text=choice.message.content,
        refusal=choice.message.refusal,
        finish_reason=choice.finish_reason,
        verification=verification,
        prompt_tokens=usage.prompt_tokens if usage else 0,
        completion_tokens=usage.completion_tokens if usage else 0,
        model=completion.model,
    )


def stream_reply(client: openai.OpenAI, request: Mapping[str, Any], show: Callable[[str], None]) -> Reply:
    """Stream one chat completion, each piece of text to `show` as it comes, and return the whole.

    Raises `ThinkTwiceError` when no chunk carries `verification`, and the SDK's errors.
    """
    texts: list[str] = []
    refusals: list[str] = []
    last = usage = None
    for chunk in client.chat.completions.create(**request, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts.append(choice.delta.content or "")
            refusals.append(choice.delta.refusal or "")
            show(texts[-1] or refusals[-1])
            last = chunk if choice.finish_reason else last
    if last is None:
        raise ThinkTwiceError("the gateway ended the stream before the answer was whole: ask again")
    return Reply(
        text="".join(texts) or None,
        refusal="".join(refusals) or None,
        finish_reason=last.choices[0].finish_reason,
        verification=verification_of(last),
        prompt_tokens=usage.prompt_tokens if usage else 0,
        completion_tokens=usage.completion_tokens if usage else 0,
        model=last.model,
    )


def verification_of(response: Any) -> Mapping[str, Any]:
    """The `verification` extension of a completion or a chunk. Raises `ThinkTwiceError` when there is none."""
    extension = (getattr(response, "model_extra", None) or {}).get("verification")
    if not isinstance(extension, Mapping):
        raise ThinkTwiceError("the server's answer has no `verification`: give --url of a thinktwice gateway")
    return extension


def error_message(error: openai.APIError) -> str:
    """The error object's message, on one line."""
    """The error object's message in one line, after the field it is about."""
    message = error.body.get("message") if isinstance(error.body, Mapping) else None
    line = " ".join(str(message or error.message).split())
    return f"{error.param}: {line}" if error.param and error.param not in line else line
