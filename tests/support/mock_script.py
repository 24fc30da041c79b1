"""What the scripted engine says: a script for a prompt, and one call's answers in vLLM's dialect."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import takewhile
from typing import Any

from router.domain import content_text

_LOGITS = (2.0, 0.0)  # of the sampled token and its only rival


class Fault(StrEnum):
    """What goes wrong instead of, or in the middle of, an answer."""

    REFUSE = "refuse"  # a 400 with an error object
    CRASH = "crash"  # a 500 without one
    STALL = "stall"  # nothing more comes
    CUT = "cut"  # the connection closes in the middle
    ERROR_EVENT = "error_event"  # an error inside a stream
    EMPTY = "empty"  # a stream of `[DONE]` alone
    UNFINISHED = "unfinished"  # `[DONE]` before the last sample ended, or no choice at all


@dataclass(frozen=True, slots=True)
class Script:
    """`answers` are given in turn, over all calls for one prompt; `delay_s` passes before each one's second half."""

    answers: tuple[str, ...]
    delay_s: float = 0.0
    fault: Fault | None = None
    finish_reason: str = "stop"
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    padding: int = 0  # bytes in a field of its own in every chunk
    turns: tuple[tuple[Mapping[str, Any], ...], ...] = ()  # tool calls made, turn by turn, before the answer

    def at_turn(self, body: Mapping[str, Any]) -> Script:
        """What is said after the tool turns that follow the last user message.

        In an answer `<asked>` is that message, and `<told>` what the last tool said.
        """
        since = list(takewhile(lambda message: message.get("role") != "user", reversed(body.get("messages", ()))))
        taken = sum(1 for message in since if message.get("role") == "assistant")
        if taken < len(self.turns):
            calls = self.turns[taken]
            written = json.dumps([call["function"] for call in calls])
            return replace(self, answers=(written,), finish_reason="tool_calls", tool_calls=calls)
        told = content_text(since[0].get("content")) if since else ""
        said = (answer.replace("<told>", told).replace("<asked>", asked(body)) for answer in self.answers)
        return replace(self, answers=tuple(said))


@dataclass(frozen=True, slots=True)
class Call:
    """One request with the answers it gets."""

    body: dict[str, Any]
    script: Script
    answers: list[str]
    plain: bool

    def head(self) -> dict[str, Any]:
        kind = "text_completion" if self.plain else f"chat.completion{'.chunk' if self.body.get('stream') else ''}"
        return {"id": "chatcmpl-mock", "object": kind, "created": 1_700_000_000, "model": self.body["model"]}

    def usage(self) -> dict[str, Any]:
        prompt, completion = len(self._prompt_ids()), sum(map(len, self.answers))
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    def whole(self) -> dict[str, Any]:
        choices = (
            [] if self.script.fault is Fault.UNFINISHED else [self._choice(*each) for each in enumerate(self.answers)]
        )
        ids = self._prompt_ids() if self.body.get("return_token_ids") else None
        extra = {"system_fingerprint": None, "kv_transfer_params": None, "prompt_token_ids": ids}
        return self.head() | {"choices": choices, "usage": self.usage()} | extra

    def roles(self) -> list[dict[str, Any]]:
        ids = self._prompt_ids() if self.body.get("return_token_ids") else None
        role = {"delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
        if self.plain:
            return []
        return [self.head() | {"choices": [{"index": i, **role}], "prompt_token_ids": ids} for i in self._indices()]

    def parts(self, *, first: bool) -> list[dict[str, Any]]:
        padding = {"system_fingerprint": "x" * self.script.padding} if self.script.padding else {}
        return [self.head() | padding | {"choices": [self._part(index, first=first)]} for index in self._indices()]

    def _part(self, index: int, *, first: bool) -> dict[str, Any]:
        answer = self.answers[index]
        half = len(answer) // 2
        text = answer[:half] if first else answer[half:]
        ending = {"finish_reason": None if first else self.script.finish_reason, "stop_reason": None}
        if self.plain:
            return {"index": index, "text": text, "logprobs": None, **ending}
        delta: dict[str, Any] = {"content": text}
        if self.script.tool_calls:
            delta = {"tool_calls": [_half_call(at, call, first) for at, call in enumerate(self.script.tool_calls)]}
        return {"index": index, "delta": delta, **self._tokens(text), **ending}

    def _choice(self, index: int, answer: str) -> dict[str, Any]:
        ending = {"finish_reason": self.script.finish_reason, "stop_reason": None}
        if self.plain:
            return {"index": index, "text": answer, "logprobs": None, **ending}
        message: dict[str, Any] = {"role": "assistant", "content": answer, "refusal": None, "reasoning_content": None}
        if self.script.tool_calls:
            message |= {"content": None, "tool_calls": list(self.script.tool_calls)}
        return {"index": index, "message": message, **self._tokens(answer), **ending}

    def _tokens(self, text: str) -> dict[str, Any]:
        ids = list(map(ord, text)) if self.body.get("return_token_ids") else None
        logprobs = {"content": [self._entry(char) for char in text]} if self.body.get("logprobs") else None
        return {"token_ids": ids, "logprobs": logprobs}

    def _entry(self, char: str) -> dict[str, Any]:
        """Processed log-probabilities: those of the logits divided by the temperature."""
        temperature = self.body.get("temperature") or 1.0
        scaled = [logit / max(temperature, 1e-2) for logit in _LOGITS]  # as vLLM, which takes no smaller one
        norm = math.log(sum(map(math.exp, scaled)))
        ranked = [
            {"token": token, "logprob": z - norm, "bytes": None} for token, z in zip((char, "~"), scaled, strict=True)
        ]
        return ranked[0] | {"top_logprobs": ranked[: self.body.get("top_logprobs") or 0]}

    def _indices(self) -> range:
        return range(len(self.answers))

    def _prompt_ids(self) -> list[int]:
        return list(map(ord, asked(self.body))) or [0]


def _half_call(index: int, call: Mapping[str, Any], first: bool) -> dict[str, Any]:
    arguments = call["function"]["arguments"]
    half = len(arguments) // 2
    if first:
        function = {"name": call["function"]["name"], "arguments": arguments[:half]}
        return {"index": index, "id": call["id"], "type": "function", "function": function}
    return {"index": index, "function": {"arguments": arguments[half:]}}


def asked(body: Mapping[str, Any]) -> str:
    if "messages" not in body:
        return str(body.get("prompt", body.get("input", "")))
    users = [message for message in body["messages"] if message.get("role") == "user"]
    return content_text(users[-1].get("content")) if users else ""
