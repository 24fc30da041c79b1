"""Constrained decoding: which tokens keep the output inside a JSON schema (llguidance)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import llguidance
import llguidance.hf
import numpy as np
import torch
from torch import Tensor

from gateway.engine.errors import ApiError

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions  # in the stub only

JSON_OPTIONS: JsonCompileOptions = {"whitespace_pattern": r"[ \n]{0,2}"}
"""Bounded whitespace between JSON tokens: a small model otherwise fills its budget with blanks."""


class GrammarFailure(RuntimeError):
    """The grammar engine gave up on a sample (limits reached, or an inconsistent state)."""


class Matcher:
    """The grammar state of one sample."""

    def __init__(self, matcher: llguidance.LLMatcher, eos_id: int, vocab_size: int) -> None:
        self._matcher = matcher
        self._eos_id = eos_id
        self._vocab_size = vocab_size

    def copy(self) -> Matcher:
        """Return an independent state at the same point, for another sample of the request."""
        return Matcher(self._matcher.deep_copy(), self._eos_id, self._vocab_size)

    @property
    def complete(self) -> bool:
        """Whether the value is complete and nothing but the end can follow."""
        return bool(self._matcher.is_stopped())

    def allowed(self) -> Tensor:
        """Return a bool tensor [vocabulary]: the tokens that may come next. Raises GrammarFailure."""
        if self._matcher.is_error():
            raise GrammarFailure(self._matcher.get_error())
        if self.complete:
            mask = torch.zeros(self._vocab_size, dtype=torch.bool)
            mask[self._eos_id] = True
            return mask
        packed = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        bits = np.unpackbits(packed, bitorder="little", count=self._vocab_size)
        return torch.from_numpy(bits).bool()

    def consume(self, token_id: int) -> None:
        """Advance by a token that `allowed` permitted."""
        if not self.complete:
            self._matcher.consume_token(token_id)


class GrammarCompiler:
    """Compiles JSON schemas against one tokenizer. Safe to call from several threads."""

    def __init__(self, tokenizer: Any, vocab_size: int, eos_id: int) -> None:
        self._hf_tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._eos_id = eos_id
        self._lock = threading.Lock()
        self._tokenizer: llguidance.LLTokenizer | None = None

    def compile(self, schema: dict[str, Any]) -> Matcher:
        """Return the matcher of a JSON schema. Raises ApiError (400) for a schema that is invalid or not supported."""
        tokenizer = self._token_table()
        grammar = llguidance.LLMatcher.grammar_from_json_schema(schema, defaults=JSON_OPTIONS)
        matcher = llguidance.LLMatcher(tokenizer, grammar, log_level=0)
        if matcher.is_error():
            reason = matcher.get_error().splitlines()[0]
            raise ApiError(f"The JSON schema cannot be compiled: {reason}", param="response_format")
        return Matcher(matcher, self._eos_id, self._vocab_size)

    def _token_table(self) -> llguidance.LLTokenizer:
        # Built on first use: it takes about a second, and most requests have no grammar.
        with self._lock:
            if self._tokenizer is None:
                self._tokenizer = llguidance.hf.from_tokenizer(self._hf_tokenizer, self._vocab_size, self._eos_id)
            return self._tokenizer
