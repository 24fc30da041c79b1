"""One sample in flight: what it has generated, and when it stops."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from gateway.engine.detokenize import Detokenizer, StopStrings
from gateway.engine.grammar import Matcher
from gateway.engine.model import LanguageModel
from gateway.engine.sampling import SamplingParams


class FinishReason(StrEnum):
    """Why a sample ended, in OpenAI's words."""

    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """One generated token of sample `index`, with the text it releases and, on the last one, why it is the last.

    `logprob` is in nats. `top` lists the most probable alternatives as (token id, logprob), best first.
    `stop_reason` is the stop string or the extra stop token that matched, None for the end-of-sequence token.
    """

    index: int
    token_id: int
    text: str
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Generation failed through no fault of the request; no further event follows."""

    message: str


Event = TokenEvent | Failure
Sink = Callable[[list[Event]], None]
"""Takes a job's events of one step. Called on the generation thread, so it must only hand them over."""


class Row:
    """A sample being generated: its random numbers, its text and its grammar state."""

    def __init__(
        self,
        index: int,
        params: SamplingParams,
        prompt_ids: Sequence[int],
        model: LanguageModel,
        matcher: Matcher | None,
    ) -> None:
        self.index = index
        self.params = params
        self.matcher = matcher
        self.token_ids: list[int] = []
        # Sample i of a request with a seed uses seed + i, as in vLLM, so a row never depends on its batch.
        self._random = random.Random(None if params.seed is None else params.seed + index)
        self._detokenizer = Detokenizer(model.tokenizer, prompt_ids)
        self._stops = StopStrings(params.stop)
        self._eos_id = model.eos_id
        self._end_ids = model.end_ids

    def uniform(self) -> float:
        """Return the next random number of this row, in [0, 1)."""
        # 48 bits: the product with a total mass below 2 stays strictly below that total in float64.
        return self._random.getrandbits(48) * 2.0**-48

    def forbidden_ids(self) -> frozenset[int]:
        """Return the tokens that may not come next: those that end the sequence, until `min_tokens` are there."""
        if len(self.token_ids) >= self.params.min_tokens or (self.matcher is not None and self.matcher.complete):
            return frozenset()
        return self._end_ids

    def accept(self, token_id: int, logprob: float, top: tuple[tuple[int, float], ...]) -> TokenEvent:
        """Append a sampled token and return its event.

        Order as in vLLM: end-of-sequence, then length, and a stop string in the same token's text before length.
        """
        self.token_ids.append(token_id)
        if self.matcher is not None:
            self.matcher.consume(token_id)
        reason: FinishReason | None = None
        stop_reason: str | int | None = None
        if token_id in self._end_ids and not self.params.ignore_eos:
            reason, text = FinishReason.STOP, ""
            stop_reason = None if token_id == self._eos_id else token_id
        else:
            late_enough = len(self.token_ids) > self.params.min_tokens
            text, stop_reason = self._stops.push(self._detokenizer.push(token_id), match=late_enough)
            if stop_reason is not None:
                reason = FinishReason.STOP
            elif len(self.token_ids) >= self.params.max_tokens:
                reason = FinishReason.LENGTH
        if reason is not None and not isinstance(stop_reason, str):
            text += self._stops.flush()
        return TokenEvent(self.index, token_id, text, logprob, top, reason, stop_reason)
