"""Text out of token ids, one at a time: whole UTF-8 characters only, and never a stop string or a part of one."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
LONGEST_CHARACTER = 4
"""Bytes of the longest UTF-8 character, hence the most tokens one character can span."""


class StopStrings:
    """Hold back text that may turn out to be the beginning of a stop string."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""

    def push(self, text: str, match: bool = True) -> tuple[str, str | None]:
        """Add `text`; return what may be shown now and the stop string that has just completed, if any.

        The stop string that ends first wins, the earlier in the list on a tie. With `match` false (`min_tokens` not
        reached) nothing stops, but text is held back all the same: a stop string may end later.
        """
        pending = self._held + text
        if match:
            completed = [(end, i) for i, stop in enumerate(self._stops) if (end := self._end(pending, stop))]
            if completed:
                end, which = min(completed)
                self._held = ""
                return pending[: end - len(self._stops[which])], self._stops[which]
        keep = max((overlap(pending, stop) for stop in self._stops), default=0)
        shown, self._held = pending[: len(pending) - keep], pending[len(pending) - keep :]
        return shown, None

    def _end(self, pending: str, stop: str) -> int:
        """Return where the first `stop` that ends in the new text ends, 0 if there is none."""
        start = pending.find(stop, max(0, len(self._held) - len(stop) + 1))
        return 0 if start < 0 else start + len(stop)

    def flush(self) -> str:
        """Return the text held back: no stop string followed."""
        held, self._held = self._held, ""
        return held


def overlap(text: str, stop: str) -> int:
    """Return the length of the longest proper prefix of `stop` that `text` ends with."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0


class Detokenizer:
    """Decode one sample incrementally. Special tokens give no text; an unfinished character gives none yet."""

    def __init__(self, tokenizer: Tokenizer, prompt_ids: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._stream = DecodeStream(ids=list(prompt_ids), skip_special_tokens=True)

    def push(self, token_id: int) -> str:
        """Return the text that `token_id` completes, possibly empty."""
        return self._stream.step(self._tokenizer, token_id) or ""


def token_text(tokenizer: Tokenizer, context: Sequence[int], token_id: int) -> str:
    """Return the text of one token on its own, special tokens included, as vLLM reports it in `logprobs`.

    A token that leaves a character unfinished has no text; the one that completes it, after the sampled tokens
    `context`, has the whole character.
    """
    text = decode(tokenizer, [token_id])
    if REPLACEMENT not in text:
        return text
    recent = list(context[-(LONGEST_CHARACTER - 1) :])
    for start in range(len(recent) - 1, -1, -1):
        whole = decode(tokenizer, [*recent[start:], token_id])
        if REPLACEMENT not in whole:
            return whole
    return ""


def decode(tokenizer: Tokenizer, ids: list[int]) -> str:
    """Decode `ids` with special tokens kept."""
    text: str = tokenizer.decode(ids, skip_special_tokens=False)
    return text
