"""Prompts: chat messages through the model's template, text through its tokenizer. Safe from any one thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from jinja2 import TemplateError

from gateway.engine.errors import ApiError
from gateway.engine.protocol import ChatRequest, CompletionRequest, Message


class PromptBuilder:
    """Turns request bodies into token ids."""

    def __init__(self, tokenizer: Any, vocab_size: int) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size

    def chat(self, request: ChatRequest) -> list[int]:
        """Render and encode a conversation. Raises ApiError (400) when the template cannot take it."""
        template = self._tokenizer.chat_template
        if template is None:
            raise ApiError("This model has no chat template; use /v1/completions", "messages")
        if not request.messages:
            raise ApiError("messages must have at least one message", "messages")
        if request.tools and "tools" not in str(template):
            raise ApiError("This model's chat template does not support tools", "tools")
        offered = request.tools if request.tool_choice != "none" else None
        try:
            text = self._tokenizer.apply_chat_template(
                [plain(message) for message in request.messages],
                tools=offered or None,
                add_generation_prompt=True,
                tokenize=False,
            )
        except (TemplateError, TypeError, ValueError, KeyError) as error:
            raise ApiError(f"The chat template cannot render these messages: {error}", "messages") from error
        return self._encode(text, special=False)

    def completion(self, request: CompletionRequest) -> list[list[int]]:
        """Encode the prompts of a text completion; token ids pass through. Raises ApiError (400)."""
        return [self._encode(p) if isinstance(p, str) else self._checked(p) for p in request.prompts()]

    def _encode(self, text: str, special: bool = True) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=special)["input_ids"]
        return ids

    def _checked(self, ids: Sequence[int]) -> list[int]:
        if any(not 0 <= i < self._vocab_size for i in ids):
            raise ApiError(f"prompt has token ids outside [0, {self._vocab_size})", "prompt")
        return list(ids)


def plain(message: Message) -> dict[str, Any]:
    """Return a message as templates expect it: text parts joined by newlines, absent content as an empty text."""
    content = message.content
    if isinstance(content, list):
        content = "\n".join(part.text for part in content)
    fields: dict[str, Any] = msgspec.to_builtins(message)
    return {**fields, "content": content or ""}
