"""The next token of every running row: masks, probabilities, draw, and the row's own bookkeeping."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gateway.engine.grammar import GrammarFailure
from gateway.engine.row import Event, Failure, Row
from gateway.engine.sampling import choose, processed_logprobs


def next_events(logits: Tensor, rows: Sequence[Row]) -> list[Event]:
    """Sample one token per row from float32 `logits` [rows, vocabulary] and advance the rows.

    Returns one event per row, in order; a Failure for a row whose grammar broke down.
    """
    masked, failures = mask(logits, rows)
    params = [row.params for row in rows]
    logprobs = processed_logprobs(masked, params)
    tokens = choose(masked, logprobs, params, [row.uniform() for row in rows])
    chosen = logprobs.gather(1, tokens.unsqueeze(1)).squeeze(1).tolist()
    alternatives = best(logprobs, [row.params.logprobs or 0 for row in rows])
    return [
        failures.get(i) or row.accept(token, logprob, top)
        for i, (row, token, logprob, top) in enumerate(zip(rows, tokens.tolist(), chosen, alternatives, strict=True))
    ]


def mask(logits: Tensor, rows: Sequence[Row]) -> tuple[Tensor, dict[int, Failure]]:
    """Set to -inf what a row's grammar or `min_tokens` forbids; return the logits and the rows that failed."""
    failures: dict[int, Failure] = {}
    masked = logits
    for i, row in enumerate(rows):
        forbidden = row.forbidden_ids()
        if row.matcher is None and not forbidden:
            continue
        if masked is logits:
            masked = logits.clone()
        if row.matcher is not None:
            try:
                masked[i, ~row.matcher.allowed().to(logits.device)] = -torch.inf
            except GrammarFailure as error:
                failures[i] = Failure(f"Constrained decoding failed: {error}")
        if forbidden:
            masked[i, list(forbidden)] = -torch.inf
    return masked, failures


def best(logprobs: Tensor, counts: Sequence[int]) -> list[tuple[tuple[int, float], ...]]:
    """Return each row's `counts[i]` most probable tokens as (token id, logprob), best first."""
    if not any(counts):
        return [() for _ in counts]
    values, ids = logprobs.topk(max(counts), dim=-1)
    rows = zip(ids.tolist(), values.tolist(), counts, strict=True)
    return [tuple(zip(row_ids[:count], row_values[:count], strict=True)) for row_ids, row_values, count in rows]
