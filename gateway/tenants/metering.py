"""Counting what a request draws while it draws it, so that one that is cut off is paid for as well."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
from msgspec.structs import replace

from router.domain import EngineInfo, Prompt, Tokens
from router.errors import BackendRejected, BackendTimeout, BackendUnavailable
from router.fold import completion_tokens
from router.ports import Backend, Draw

UNKNOWN_CONTEXT = 32_768  # tokens; of an engine that does not say
TEMPLATE_TOKENS = 256  # what a chat template may add beside the messages: system prompt, tool instructions, date


def prompt_bound(value: Any, engine: EngineInfo, texts: int = 1) -> int:
    """The most tokens that a prompt, or one request's `texts` prompts, can have, short of tokenizing them.

    A byte-level vocabulary has no token below one byte, so it is the bytes of its JSON and the template's share, or the
    model's context where that is less.
    """
    context = engine.max_model_len or UNKNOWN_CONTEXT
    return min(len(msgspec.json.encode(value)) + TEMPLATE_TOKENS, texts * context)


def draw_bound(prompt: Prompt, engine: EngineInfo, *, grows: bool) -> Tokens:
    """The most tokens one completion of a chat prompt can cost.

    One that `grows` with tool turns fills the context, and so may a part that is no text: an image's address is short.
    """
    context = engine.max_model_len or UNKNOWN_CONTEXT
    asked = context if grows or _shows_more(prompt) else prompt_bound([prompt.messages, prompt.options], engine)
    return Tokens(asked, completion_bound(prompt.sampling.max_tokens, engine))


def _shows_more(prompt: Prompt) -> bool:
    contents = (message.get("content") for message in prompt.messages)
    return any(part["type"] != "text" for parts in contents if isinstance(parts, list) for part in parts)


def completion_bound(max_tokens: int | None, engine: EngineInfo) -> int:
    """The most tokens one completion can have."""
    context = engine.max_model_len or UNKNOWN_CONTEXT
    return context if max_tokens is None else min(max_tokens, context)


def times(tokens: Tokens, count: int) -> Tokens:
    """`count` times as many."""
    return Tokens(tokens.prompt * count, tokens.completion * count)


@dataclass(slots=True)
class Meter:
    """What one request has drawn so far; `bound` is the most that one of its completions can cost."""

    bound: Tokens
    drawn: Tokens = Tokens()

    def at_least(self, tokens: Tokens) -> None:
        """Count an answer that was drawn in another request's name, which has left meanwhile, and is now this one's."""
        if tokens.prompt + tokens.completion > self.drawn.prompt + self.drawn.completion:
            self.drawn = tokens

    async def whole(self, answering: Awaitable[Mapping[str, Any]], n: int) -> Mapping[str, Any]:
        """Count an answer of `n` samples that comes whole; one that is not waited for counts as the most it can be."""
        try:
            answer = await answering
        except (BackendTimeout, asyncio.CancelledError):
            self.drawn += times(self.bound, n)
            raise
        self.drawn += completion_tokens(answer)
        return answer

    async def stream(self, chunks: AsyncGenerator[Mapping[str, Any]]) -> AsyncGenerator[Mapping[str, Any]]:
        """Count chunks as they pass. The engine's own count wins when it comes; a refused call costs nothing."""
        prompt, generated, reported = self.bound.prompt, 0, Tokens()
        try:
            async with aclosing(chunks):
                async for chunk in chunks:
                    prompt = len(chunk.get("prompt_token_ids") or ()) or prompt
                    generated += sum(_tokens_of(choice) for choice in chunk.get("choices") or ())
                    reported = completion_tokens(chunk) if chunk.get("usage") else reported
                    yield chunk
        except (BackendRejected, BackendUnavailable):
            prompt = prompt if generated else 0
            raise
        finally:
            completion = max(generated, reported.completion)
            self.drawn += replace(reported, prompt=reported.prompt or prompt, completion=completion)


Metered: TypeAlias = ContextVar[Meter | None]

POLICY: Metered = ContextVar("policy", default=None)  # what the policy draws
LARGER: Metered = ContextVar("larger", default=None)  # what the larger model draws, which has another price


def start_meter(bound: Tokens, metered: Metered = POLICY) -> Meter:
    """The meter of the request that this task, and every task it starts from now on, works for."""
    meter = Meter(bound)
    metered.set(meter)
    return meter


class MeteredBackend:
    """`router.ports.Backend` that counts on the meter of the request it draws for, if that has one."""

    def __init__(self, backend: Backend, metered: Metered = POLICY) -> None:
        self._backend, self._metered = backend, metered

    async def complete(self, draw: Draw) -> Mapping[str, Any]:
        """The whole chat completion object, as the engine returned it."""
        meter = self._metered.get()
        completing = self._backend.complete(draw)
        return await (completing if meter is None else meter.whole(completing, draw.n))

    def stream(self, draw: Draw) -> AsyncGenerator[Mapping[str, Any]]:
        """The chunks of a chat completion, as the engine sent them."""
        meter = self._metered.get()
        chunks = self._backend.stream(draw)
        return chunks if meter is None else meter.stream(chunks)

    async def load_policy(self, name: str, folder: Path) -> None:
        """Serve the LoRA adapter in `folder` as `name`."""
        await self._backend.load_policy(name, folder)

    async def probe(self) -> EngineInfo:
        """What the engine is and can do."""
        return await self._backend.probe()

    async def alive(self) -> bool:
        """Whether an engine answers its health check."""
        return await self._backend.alive()

    @property
    def degraded(self) -> str | None:
        """What is wrong with a part of it."""
        return self._backend.degraded


def _tokens_of(choice: Mapping[str, Any]) -> int:
    ids = choice.get("token_ids")
    if ids is not None:
        return len(ids)
    delta = choice.get("delta") or choice  # a chat's, or a plain completion's
    return int(any(delta.get(name) for name in ("content", "text", "reasoning_content", "reasoning", "tool_calls")))
