"""Folding an engine's answer into samples: the chunks of a stream, or one whole completion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from router.domain import Sample, Sampling, Tokens, Turn
from router.errors import BackendProtocolError

_TEXT_FIELDS = ("content", "reasoning_content", "reasoning", "refusal")


class ChoiceFold:
    """The growing sample of one choice."""

    def __init__(self) -> None:
        self.message: dict[str, Any] = {"role": "assistant", "content": None}
        self.token_ids: list[int] = []
        self.logprob_entries: list[Mapping[str, Any]] = []
        self.finish_reason: str | None = None
        self.stop_reason: int | str | None = None

    def feed(self, choice: Mapping[str, Any]) -> None:
        """Take one chunk's choice."""
        for name, value in (choice.get("delta") or {}).items():
            if name == "tool_calls":
                for call in value or ():
                    self._merge_tool_call(call)
            elif name in _TEXT_FIELDS and isinstance(value, str):
                self.message[name] = (self.message.get(name) or "") + value
            elif value is not None:
                self.message[name] = value
        self.token_ids.extend(choice.get("token_ids") or ())
        self.logprob_entries.extend((choice.get("logprobs") or {}).get("content") or ())
        if choice.get("finish_reason") is not None:
            self.finish_reason = choice["finish_reason"]
            self.stop_reason = choice.get("stop_reason")

    def _merge_tool_call(self, delta: Mapping[str, Any]) -> None:
        calls = self.message.setdefault("tool_calls", [])
        position = delta.get("index", len(calls))
        while len(calls) <= position:
            calls.append({"id": None, "type": "function", "function": {"name": "", "arguments": ""}})
        call = calls[position]
        call["id"] = delta.get("id") or call["id"]
        function = delta.get("function") or {}
        call["function"]["name"] += function.get("name") or ""
        call["function"]["arguments"] += function.get("arguments") or ""

    def sample(self, index: int, sampling: Sampling, model: str) -> Sample:
        """The sample so far; its `finish_reason` is None unless the engine ended it."""
        raw = {"content": self.logprob_entries} if self.logprob_entries else None
        return Sample(
            index=index,
            message=self.message,
            finish_reason=self.finish_reason,
            sampling=sampling,
            model=model,
            stop_reason=self.stop_reason,
            token_ids=tuple(self.token_ids) or None,
            logprobs=_logprobs(raw),
            raw_logprobs=raw,
        )


class StreamFold:
    """All choices of one upstream call, its prompt's token ids and its token counts.

    `turns` are what the one sample of the call has behind it when the call goes on with a conversation.
    """

    def __init__(
        self, first_index: int, sampling: Sampling, model: str, n: int = 1, turns: tuple[Turn, ...] = ()
    ) -> None:
        self._first_index, self._sampling, self._model = first_index, sampling, model
        self.turns = turns
        self._choices = {index: ChoiceFold() for index in range(n)}
        self._usage: Mapping[str, Any] = {}
        self.prompt_token_ids: tuple[int, ...] | None = None

    def feed(self, chunk: Mapping[str, Any]) -> list[Sample]:
        """Take one chunk; returns the samples that it ended. Raises `BackendProtocolError` for what is no chunk."""
        try:
            if chunk.get("prompt_token_ids"):
                self.prompt_token_ids = tuple(chunk["prompt_token_ids"])
            self._usage = chunk.get("usage") or self._usage
            ended = []
            for choice in chunk.get("choices") or ():
                index = choice.get("index", 0)
                self._choices[index].feed(choice)
                if choice.get("finish_reason") is not None:
                    ended.append(self._sample(index))
            return ended
        except (KeyError, TypeError, AttributeError) as error:
            raise BackendProtocolError(
                f"the engine sent a chunk that is not a chat completion chunk: {error!r}"
            ) from error

    @property
    def complete(self) -> bool:
        """Whether every choice was ended by the engine."""
        return all(choice.finish_reason is not None for choice in self._choices.values())

    def begun(self) -> list[Sample]:
        """Every sample that has begun; those the engine did not end have no `finish_reason`."""
        return [
            self._sample(index)
            for index, choice in self._choices.items()
            if self.turns or choice.finish_reason is not None or choice.token_ids or choice.message["content"]
        ]

    def tokens(self) -> Tokens:
        """Tokens this call cost, the cut samples included: counted from the ids, else as the engine reported."""
        usage = _usage_tokens(self._usage)
        generated = sum(len(choice.token_ids) for choice in self._choices.values())
        return Tokens(
            prompt=usage.prompt or len(self.prompt_token_ids or ()),
            completion=max(generated, usage.completion),
            cached_prompt=usage.cached_prompt,
        )

    def _sample(self, index: int) -> Sample:
        sample = self._choices[index].sample(self._first_index + index, self._sampling, self._model)
        return replace(sample, turns=self.turns, prompt_token_ids=self.prompt_token_ids) if self.turns else sample


def completion_samples(completion: Mapping[str, Any], sampling: Sampling, model: str) -> list[Sample]:
    """The samples of a whole chat completion, in the order of its choices. Raises `BackendProtocolError`."""
    try:
        return [
            Sample(
                index=choice["index"],
                message=choice["message"],
                finish_reason=choice["finish_reason"],
                sampling=sampling,
                model=model,
                stop_reason=choice.get("stop_reason"),
                token_ids=tuple(choice.get("token_ids") or ()) or None,
                logprobs=_logprobs(choice.get("logprobs")),
                raw_logprobs=choice.get("logprobs"),
            )
            for choice in sorted(completion["choices"], key=lambda choice: choice["index"])
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise BackendProtocolError(f"the engine's answer is not a chat completion: {error!r}") from error


def completion_tokens(completion: Mapping[str, Any]) -> Tokens:
    """Token counts of a whole chat completion."""
    return _usage_tokens(completion.get("usage") or {})


def _usage_tokens(usage: Mapping[str, Any]) -> Tokens:
    details = usage.get("prompt_tokens_details") or {}
    return Tokens(
        prompt=usage.get("prompt_tokens") or 0,
        completion=usage.get("completion_tokens") or 0,
        cached_prompt=details.get("cached_tokens") or 0,
    )


def _logprobs(raw: Mapping[str, Any] | None) -> tuple[float | None, ...] | None:
    entries = (raw or {}).get("content")
    return tuple([entry.get("logprob") for entry in entries]) if entries else None


def has_content(chunk: Mapping[str, Any]) -> bool:
    """Whether a chunk shows anything of an answer: engines open a stream with the role alone."""
    deltas = [choice.get("delta") or {} for choice in chunk["choices"]]
    return any(value for delta in deltas for name, value in delta.items() if name != "role")
