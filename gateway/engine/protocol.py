"""Requests of the dialect: what is accepted, and the sampling parameters it means.

A field that is not listed here is refused with a 400 that names it: silence would be a wrong answer.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import msgspec

from gateway.engine.errors import ApiError
from gateway.engine.sampling import SamplingParams

MAX_LOGPROBS = 20
"""Most alternatives per token, as vLLM's `--max-logprobs`."""

DEFAULT_COMPLETION_TOKENS = 16
"""`max_tokens` of /v1/completions when absent (OpenAI)."""

Parsed = TypeVar("Parsed", bound=msgspec.Struct)
Value = TypeVar("Value")


class TextPart(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A part of a multi-part message. Text is the only kind."""

    text: str
    type: Literal["text"] = "text"


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """A chat message; fields that no template reads are ignored, as in vLLM."""

    role: str
    content: str | list[TextPart] | None = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Options of a stream."""

    include_usage: bool | None = False


class JsonSchema(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """OpenAI's wrapper around a JSON schema. The grammar is always enforced, so `strict` changes nothing."""

    name: str
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What the text must look like."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    def schema(self) -> dict[str, Any] | None:
        """Return the JSON schema to enforce, None for free text. Raises ApiError."""
        if self.type == "text":
            return None
        if self.type == "json_object":
            return {"type": "object"}
        if self.json_schema is None:
            raise ApiError("response_format of type 'json_schema' needs 'json_schema'", "response_format")
        return self.json_schema.schema


class Generation(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The fields both endpoints share. `cache_salt` and `user` are accepted and have no effect."""

    model: str | None = None
    n: int = 1
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    max_tokens: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    stop: str | list[str] | None = None
    seed: int | None = None
    response_format: ResponseFormat | None = None
    return_token_ids: bool | None = None
    cache_salt: str | None = None
    user: str | None = None

    def max_new_tokens(self) -> tuple[str, int | None]:
        """Return the name of the field that limits the completion, and its value."""
        return "max_tokens", self.max_tokens

    def top_alternatives(self) -> int | None:
        """Return how many alternatives to report per token, None for no log-probabilities. Raises ApiError."""
        raise NotImplementedError

    def sampling(self, prompt_length: int, max_model_len: int) -> SamplingParams:
        """Check every value against its range and the context. Raises ApiError naming the field."""
        params = SamplingParams(
            max_tokens=self._token_budget(prompt_length, max_model_len),
            temperature=default(self.temperature, 1.0),
            top_p=default(self.top_p, 1.0),
            top_k=max(default(self.top_k, 0), 0),
            min_p=default(self.min_p, 0.0),
            min_tokens=self.min_tokens,
            ignore_eos=self.ignore_eos,
            stop=tuple([self.stop] if isinstance(self.stop, str) else self.stop or ()),
            seed=self.seed,
            logprobs=self.top_alternatives(),
        )
        require(self.n >= 1, "n", f"n must be at least 1, got {self.n}")
        # The comparisons are false for NaN.
        require(0.0 <= params.temperature <= 2.0, "temperature", "temperature must be in [0, 2]")
        require(0.0 < params.top_p <= 1.0, "top_p", "top_p must be in (0, 1]")
        require(default(self.top_k, 0) >= -1, "top_k", "top_k must be 0 or -1 (off), or at least 1")
        require(0.0 <= params.min_p <= 1.0, "min_p", "min_p must be in [0, 1]")
        require(all(params.stop), "stop", "stop cannot contain an empty string")
        require(0 <= params.min_tokens <= params.max_tokens, "min_tokens", "min_tokens must be in [0, max_tokens]")
        require(self.stream or self.stream_options is None, "stream_options", "stream_options needs stream=true")
        return params

    def _token_budget(self, prompt_length: int, max_model_len: int) -> int:
        room = max_model_len - prompt_length
        field, asked = self.max_new_tokens()
        length = f"the model's context is {max_model_len} tokens and the prompt has {prompt_length}"
        require(prompt_length > 0, "prompt", "the prompt has no tokens")
        require(room > 0, "messages", f"the prompt is too long: {length}")
        require(asked is None or asked >= 1, field, f"{field} must be at least 1, got {asked}")
        require(asked is None or asked <= room, field, f"{field}={asked} does not fit: {length}")
        return asked if asked is not None else room


class ChatRequest(Generation, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Body of POST /v1/chat/completions."""

    messages: list[Message]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Literal["none", "auto"] | None = None

    def max_new_tokens(self) -> tuple[str, int | None]:
        """`max_completion_tokens` goes before the older `max_tokens`."""
        if self.max_completion_tokens is not None:
            return "max_completion_tokens", self.max_completion_tokens
        return "max_tokens", self.max_tokens

    def top_alternatives(self) -> int | None:
        """`top_logprobs` alternatives when `logprobs` is true."""
        top = self.top_logprobs or 0
        require(0 <= top <= MAX_LOGPROBS, "top_logprobs", f"top_logprobs must be in [0, {MAX_LOGPROBS}], got {top}")
        require(not top or bool(self.logprobs), "top_logprobs", "top_logprobs needs logprobs=true")
        return top if self.logprobs else None


class CompletionRequest(Generation, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Body of POST /v1/completions. Token ids are as good as text."""

    prompt: str | list[str | int | list[int]]
    logprobs: int | None = None
    echo: Literal[False] = False

    def max_new_tokens(self) -> tuple[str, int | None]:
        """16 when absent, as OpenAI has it."""
        return "max_tokens", DEFAULT_COMPLETION_TOKENS if self.max_tokens is None else self.max_tokens

    def top_alternatives(self) -> int | None:
        """`logprobs` alternatives; 0 reports the sampled tokens only."""
        top = self.logprobs
        require(top is None or 0 <= top <= MAX_LOGPROBS, "logprobs", f"logprobs must be in [0, {MAX_LOGPROBS}]")
        return top

    def prompts(self) -> list[str | list[int]]:
        """Return the prompts, each text or token ids. Raises ApiError for a list that mixes kinds."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        kinds = {type(item) for item in self.prompt}
        require(len(kinds) == 1, "prompt", "prompt must be a text, token ids, or a list of either")
        if kinds == {int}:
            return [[item for item in self.prompt if isinstance(item, int)]]
        return [item for item in self.prompt if not isinstance(item, int)]


class LoadAdapter(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Body of POST /v1/load_lora_adapter. Weights never change under a name, so `load_inplace` is refused."""

    lora_name: str
    lora_path: str


class UnloadAdapter(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Body of POST /v1/unload_lora_adapter."""

    lora_name: str


def parse(body: bytes, kind: type[Parsed]) -> Parsed:
    """Decode and check a body. Raises ApiError (400) naming the field."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise ApiError(str(error), offending_field(str(error))) from error
    except msgspec.DecodeError as error:
        raise ApiError(f"The body is not valid JSON: {error}") from error
    except RecursionError as error:
        raise ApiError("The body is nested too deeply") from error


def offending_field(message: str) -> str | None:
    """Read the field out of a msgspec message: an unknown field's name, else the path after `$.`."""
    quoted = message.split("`")
    if "unknown field" in message or "missing required field" in message:
        return quoted[1]
    path = quoted[-2] if len(quoted) > 2 and quoted[-2].startswith("$") else "$"
    return path.removeprefix("$").removeprefix(".") or None


def require(condition: bool, param: str, message: str) -> None:
    """Raise ApiError (400) about `param` unless `condition` holds."""
    if not condition:
        raise ApiError(message, param)


def default(value: Value | None, fallback: Value) -> Value:
    """Return `value`, or `fallback` when it is absent or null."""
    return fallback if value is None else value
