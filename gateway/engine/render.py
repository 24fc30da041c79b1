"""Responses of the dialect: events in, JSON objects out, field for field as vLLM writes them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec
from tokenizers import Tokenizer

from gateway.engine.detokenize import token_text
from gateway.engine.row import FinishReason, TokenEvent

LOGPROB_FLOOR = -9999.0
"""What -inf becomes, since JSON has no infinity (vLLM)."""

Json = dict[str, Any]


@dataclass(slots=True)
class Choice:
    """What one sample has produced so far."""

    index: int
    token_ids: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    logprobs: list[Json] = field(default_factory=list)
    text_length: int = 0
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None

    def ending(self) -> Json:
        """Return how the sample ended; both null while it runs."""
        return {"finish_reason": self.finish_reason, "stop_reason": self.stop_reason}


@dataclass(frozen=True, slots=True)
class Envelope:
    """What all objects of one response share, and what the client asked to see."""

    model: str
    tokenizer: Tokenizer
    prompts: Sequence[Sequence[int]]
    samples: int
    token_ids: bool
    logprobs: bool
    prefix: str
    created: int = field(default_factory=lambda: int(time.time()))
    unique: str = field(default_factory=lambda: uuid.uuid4().hex)

    def head(self, kind: str) -> Json:
        """Return the fields every object begins with."""
        return {"id": f"{self.prefix}-{self.unique}", "object": kind, "created": self.created, "model": self.model}

    def choices(self) -> list[Choice]:
        """Return one empty choice per sample and prompt, numbered prompt by prompt."""
        return [Choice(index) for index in range(len(self.prompts) * self.samples)]

    def prompt_of(self, choice: Choice) -> list[int]:
        """Return the prompt ids a choice answers."""
        return list(self.prompts[choice.index // self.samples])

    def usage(self, choices: Iterable[Choice]) -> Json:
        """Count each prompt once and every generated token, end-of-sequence included."""
        prompt = sum(len(ids) for ids in self.prompts)
        completion = sum(len(choice.token_ids) for choice in choices)
        return {
            "prompt_tokens": prompt,
            "total_tokens": prompt + completion,
            "completion_tokens": completion,
            "prompt_tokens_details": None,
        }


class Renderer(Protocol):
    """How one endpoint writes its answers."""

    envelope: Envelope

    def opening(self, choices: Sequence[Choice]) -> list[Json]:
        """Return the chunks sent before the first token."""

    def delta(self, choice: Choice, event: TokenEvent) -> Json:
        """Add an event to its choice and return the chunk that tells it."""

    def append(self, choice: Choice, event: TokenEvent) -> list[Json]:
        """Add an event to its choice; return its log-probability entries (none unless asked for)."""

    def usage(self, choices: Sequence[Choice]) -> Json:
        """Return the chunk that closes a stream with `include_usage`."""

    def whole(self, choices: Sequence[Choice]) -> Json:
        """Return the complete response of finished choices."""


class ChatRenderer:
    """Writes /v1/chat/completions."""

    def __init__(self, envelope: Envelope) -> None:
        self.envelope = envelope

    def opening(self, choices: Sequence[Choice]) -> list[Json]:
        """One chunk per choice with the role; the prompt's ids ride on them."""
        shown = list(self.envelope.prompts[0]) if self.envelope.token_ids else None
        role = {"delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
        return [self._chunk([{"index": choice.index, **role}], prompt_token_ids=shown) for choice in choices]

    def delta(self, choice: Choice, event: TokenEvent) -> Json:
        """One chunk per token, with its text, id and log-probability."""
        entries = self.append(choice, event)
        body = {
            "index": choice.index,
            "delta": {"content": event.text},
            "logprobs": {"content": entries} if self.envelope.logprobs else None,
            **choice.ending(),
            "token_ids": [event.token_id] if self.envelope.token_ids else None,
        }
        return self._chunk([body])

    def usage(self, choices: Sequence[Choice]) -> Json:
        """No choices, only the count."""
        return self._chunk([], usage=self.envelope.usage(choices))

    def whole(self, choices: Sequence[Choice]) -> Json:
        """The chat.completion object."""
        shown = list(self.envelope.prompts[0]) if self.envelope.token_ids else None
        return {
            **self.envelope.head("chat.completion"),
            "choices": [self._message(choice) for choice in choices],
            "service_tier": None,
            "system_fingerprint": None,
            "usage": self.envelope.usage(choices),
            "prompt_logprobs": None,
            "prompt_token_ids": shown,
        }

    def append(self, choice: Choice, event: TokenEvent) -> list[Json]:
        """Add an event to its choice; return its log-probability entries (none unless asked for)."""
        entries = [self._logprob_entry(choice, event)] if self.envelope.logprobs else []
        record(choice, event, entries)
        return entries

    def _message(self, choice: Choice) -> Json:
        return {
            "index": choice.index,
            "message": {"role": "assistant", "content": "".join(choice.texts), "refusal": None},
            "logprobs": {"content": choice.logprobs} if self.envelope.logprobs else None,
            **choice.ending(),
            "token_ids": choice.token_ids if self.envelope.token_ids else None,
        }

    def _logprob_entry(self, choice: Choice, event: TokenEvent) -> Json:
        text = token_text(self.envelope.tokenizer, choice.token_ids, event.token_id)
        # vLLM lists the sampled token first and cuts the list at `top_logprobs`.
        ranked = dict([(event.token_id, event.logprob), *event.top])
        shown = list(ranked.items())[: len(event.top)]
        top = [(token_text(self.envelope.tokenizer, choice.token_ids, i), p) for i, p in shown]
        return {**spelled(text, event.logprob), "top_logprobs": [spelled(t, p) for t, p in top]}

    def _chunk(self, choices: list[Json], **extra: Any) -> Json:
        return {**self.envelope.head("chat.completion.chunk"), "choices": choices, **extra}


class CompletionRenderer:
    """Writes /v1/completions."""

    def __init__(self, envelope: Envelope) -> None:
        self.envelope = envelope

    def opening(self, choices: Sequence[Choice]) -> list[Json]:
        """Nothing: the first token's chunk is the first."""
        return []

    def delta(self, choice: Choice, event: TokenEvent) -> Json:
        """One chunk per token; the first of a choice carries the prompt's ids."""
        first = not choice.token_ids
        entries = self.append(choice, event)
        body = {
            "index": choice.index,
            "text": event.text,
            "logprobs": columns(entries) if self.envelope.logprobs else None,
            **choice.ending(),
            "prompt_token_ids": self.envelope.prompt_of(choice) if first and self.envelope.token_ids else None,
            "token_ids": [event.token_id] if self.envelope.token_ids else None,
        }
        return {**self.envelope.head("text_completion"), "choices": [body]}

    def usage(self, choices: Sequence[Choice]) -> Json:
        """No choices, only the count."""
        return {**self.envelope.head("text_completion"), "choices": [], "usage": self.envelope.usage(choices)}

    def whole(self, choices: Sequence[Choice]) -> Json:
        """The text_completion object."""
        bodies = [
            {
                "index": choice.index,
                "text": "".join(choice.texts),
                "logprobs": columns(choice.logprobs) if self.envelope.logprobs else None,
                **choice.ending(),
                "token_ids": choice.token_ids if self.envelope.token_ids else None,
                "prompt_logprobs": None,
                "prompt_token_ids": self.envelope.prompt_of(choice) if self.envelope.token_ids else None,
            }
            for choice in choices
        ]
        return {
            **self.envelope.head("text_completion"),
            "choices": bodies,
            "service_tier": None,
            "system_fingerprint": None,
            "usage": self.envelope.usage(choices),
        }

    def append(self, choice: Choice, event: TokenEvent) -> list[Json]:
        """Add an event to its choice; return its log-probability entries (none unless asked for)."""
        entries = []
        if self.envelope.logprobs:
            tokenizer, context = self.envelope.tokenizer, choice.token_ids
            text = token_text(tokenizer, context, event.token_id)
            ranked = dict([(event.token_id, event.logprob), *event.top])
            top = {token_text(tokenizer, context, i): max(p, LOGPROB_FLOOR) for i, p in ranked.items()}
            logprob = max(event.logprob, LOGPROB_FLOOR)
            entries = [{"token": text, "logprob": logprob, "top": top, "offset": choice.text_length}]
            choice.text_length += len(text)
        record(choice, event, entries)
        return entries


def record(choice: Choice, event: TokenEvent, entries: list[Json]) -> None:
    """Append an event's id, text and log-probability entries to its choice."""
    choice.token_ids.append(event.token_id)
    choice.texts.append(event.text)
    choice.logprobs.extend(entries)
    choice.finish_reason, choice.stop_reason = event.finish_reason, event.stop_reason


def spelled(token: str, logprob: float) -> Json:
    """Return one entry of a chat log-probability list."""
    return {"token": token, "logprob": max(logprob, LOGPROB_FLOOR), "bytes": list(token.encode())}


def columns(entries: Sequence[Json]) -> Json:
    """Return OpenAI's column-wise log-probabilities of a text completion."""
    return {
        "text_offset": [entry["offset"] for entry in entries],
        "token_logprobs": [entry["logprob"] for entry in entries],
        "tokens": [entry["token"] for entry in entries],
        "top_logprobs": [entry["top"] for entry in entries],
    }


def sse(chunk: Json) -> bytes:
    """Frame one server-sent event."""
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"
