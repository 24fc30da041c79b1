"""Rows that decode together: one key/value cache, left-padded, grown and compacted at token boundaries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from gateway.engine.model import LanguageModel
from gateway.engine.row import Row

HEADROOM = 128
"""Columns allocated beyond what is needed, so that a cache is copied once in that many tokens."""


class PaddedLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """Keys and values of one layer, [rows, heads, capacity, head size], of which the first `length` columns are set.

    Unlike transformers' DynamicLayer it writes in place instead of copying the whole cache at every token. Sliding
    windows are left to the attention mask.
    """

    is_sliding = False

    def __init__(self, keys: Tensor | None = None, values: Tensor | None = None, length: int = 0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.keys = keys
        self.values = values
        self.length = length
        self.is_initialized = keys is not None

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate on the first forward pass."""
        columns = key_states.shape[-2]
        self.keys = padded(key_states[:, :, :0], 0, columns + HEADROOM)
        self.values = padded(value_states[:, :, :0], 0, columns + HEADROOM)
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Append new columns and return all columns so far."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        keys, values = self.states()
        end = self.length + key_states.shape[-2]
        if end > keys.shape[-2]:
            self.keys = keys = padded(keys[:, :, : self.length], 0, end + HEADROOM)
            self.values = values = padded(values[:, :, : self.length], 0, end + HEADROOM)
        keys[:, :, self.length : end] = key_states
        values[:, :, self.length : end] = value_states
        self.length = end
        return keys[:, :, :end], values[:, :, :end]

    def states(self) -> tuple[Tensor, Tensor]:
        """Return keys and values with their spare columns. Raises ValueError before the first forward pass."""
        if self.keys is None or self.values is None:
            raise ValueError("the cache layer is empty")
        return self.keys, self.values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return (columns attended to by the next `query_length` tokens, offset of the first)."""
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        """Return the number of columns set."""
        return self.length

    def get_max_length(self) -> int:
        """Return -1: no limit."""
        return -1


class PaddedCache(Cache):
    """The cache of all layers."""

    def __init__(self, layers: Sequence[PaddedLayer]) -> None:
        super().__init__(layers=list(layers))
        self.padded = layers

    @classmethod
    def empty(cls, layer_count: int) -> PaddedCache:
        """Return a cache without rows; the first forward pass sets their number."""
        return cls([PaddedLayer() for _ in range(layer_count)])

    @property
    def length(self) -> int:
        """Columns set so far, padding included."""
        return self.padded[0].length


def padded(states: Tensor, left: int, capacity: int) -> Tensor:
    """Copy `states` [rows, heads, columns, size] into zeros of `capacity` columns, `left` columns in.

    Zeros, not garbage: a masked column still meets a weight of 0, and 0 times NaN is NaN.
    """
    rows, heads, columns, size = states.shape
    out = states.new_zeros((rows, heads, capacity, size))
    out[:, :, left : left + columns] = states
    return out


@dataclass(frozen=True, slots=True)
class Part:
    """Rows to put into a batch: `source` rows of a cache, with the number of real tokens each has there."""

    cache: PaddedCache
    source: Sequence[int]
    lengths: Sequence[int]


def assemble(parts: Sequence[Part]) -> PaddedCache:
    """Stack the rows of several caches into one, left-padded to the longest row."""
    longest = max(length for part in parts for length in part.lengths)
    layers = []
    for stack in zip(*(part.cache.padded for part in parts), strict=True):
        keys: list[Tensor] = []
        values: list[Tensor] = []
        for part, layer in zip(parts, stack, strict=True):
            shown = max(part.lengths)
            for states, out in zip(layer.states(), (keys, values), strict=True):
                rows = states[list(part.source), :, layer.length - shown : layer.length]
                out.append(padded(rows, longest - shown, longest + HEADROOM))
        layers.append(PaddedLayer(torch.cat(keys), torch.cat(values), longest))
    return PaddedCache(layers)


class Batch:
    """The running rows of one adapter. Every row's last token is sampled but not yet in the cache."""

    def __init__(self, model: LanguageModel, slot: str | None) -> None:
        self.rows: list[Row] = []
        self._model = model
        self._slot = slot
        self._cache: PaddedCache | None = None
        self._lengths: list[int] = []

    def rebuild(self, keep: Sequence[Row], arrivals: Sequence[tuple[Sequence[Row], PaddedCache, int]]) -> None:
        """Drop the rows not in `keep` and add `arrivals`: (rows of one prompt, its one-row cache, prompt length)."""
        parts = []
        if keep and self._cache is not None:
            places = [self.rows.index(row) for row in keep]
            parts.append(Part(self._cache, places, [self._lengths[i] for i in places]))
        for rows, cache, length in arrivals:
            parts.append(Part(cache, [0] * len(rows), [length] * len(rows)))
        self.rows = [*keep, *(row for rows, _, _ in arrivals for row in rows)]
        self._lengths = [length for part in parts for length in part.lengths]
        self._cache = assemble(parts) if parts else None

    def step(self) -> Tensor:
        """Feed every row's last token and return float32 logits [rows, vocabulary] for the next one."""
        if self._cache is None:
            raise ValueError("an empty batch cannot be stepped")
        device = self._model.device
        ids = torch.tensor([[row.token_ids[-1]] for row in self.rows], device=device)
        positions = torch.tensor(self._lengths, device=device).unsqueeze(1)
        columns = self._cache.length + 1
        mask = None
        if min(self._lengths) < columns - 1:
            starts = columns - 1 - positions
            mask = torch.arange(columns, device=device).unsqueeze(0) >= starts
        logits = self._model.forward(self._slot, ids, positions, mask, self._cache)
        self._lengths = [length + 1 for length in self._lengths]
        return logits
