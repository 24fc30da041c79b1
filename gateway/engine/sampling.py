"""From logits to tokens: pure tensor functions, one row per sample.

Log-probabilities are *processed*: the log-softmax of the logits after grammar mask, temperature, min_p, top_k and
top_p, that is, of the distribution the token was drawn from. A greedy row (temperature 0) reports the log-softmax of
its masked logits at temperature 1, as vLLM does under `--logprobs-mode processed_logprobs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

GREEDY_BELOW = 1e-5
"""Temperatures below this one are greedy (vLLM `SamplingParams`)."""

MIN_TEMPERATURE = 1e-2
"""Random sampling never divides by less (vLLM `SamplingParams`): float32 logits would overflow."""


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How one request is sampled. `logprobs` is the number of alternatives reported, None for no log-probabilities."""

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    min_tokens: int = 0
    ignore_eos: bool = False
    stop: tuple[str, ...] = ()
    seed: int | None = None
    logprobs: int | None = None

    @property
    def greedy(self) -> bool:
        """Whether the most probable token is taken."""
        return self.temperature < GREEDY_BELOW

    @property
    def truncates(self) -> bool:
        """Whether top_k, top_p or min_p can remove a token. They do nothing to a greedy row."""
        return not self.greedy and (self.top_k > 0 or self.top_p < 1.0 or self.min_p > 0.0)


def processed_logprobs(logits: Tensor, params: Sequence[SamplingParams]) -> Tensor:
    """Log-probabilities, in nats, of the distribution each row is sampled from.

    `logits` is float32 [rows, vocabulary], already grammar-masked with -inf; the result has its shape. The order is
    vLLM's: temperature, min_p, top_k, top_p, renormalise.
    """
    temperatures = [1.0 if p.greedy else max(p.temperature, MIN_TEMPERATURE) for p in params]
    if any(t != 1.0 for t in temperatures):
        logits = logits / torch.tensor(temperatures, device=logits.device).unsqueeze(1)
    truncated = [i for i, p in enumerate(params) if p.truncates]
    if truncated:
        logits = logits.clone()
        logits[truncated] = truncate(logits[truncated], [params[i] for i in truncated])
    return torch.log_softmax(logits, dim=-1)


def truncate(logits: Tensor, params: Sequence[SamplingParams]) -> Tensor:
    """Set to -inf what min_p, top_k and top_p remove; [rows, vocabulary] in and out, at least one token stays.

    min_p keeps tokens with at least `min_p` times the probability of the best one; top_k the k best, ties of the
    k-th included; top_p the smallest set of best tokens whose mass reaches `top_p` (Holtzman et al. 2020).
    """
    vocabulary, device = logits.shape[1], logits.device
    min_p = torch.tensor([p.min_p for p in params], device=device).unsqueeze(1)
    best = logits.max(dim=-1, keepdim=True).values
    logits = logits.masked_fill(logits < best + min_p.log(), -torch.inf)

    ordered, order = logits.sort(dim=-1, descending=True)
    top_k = [p.top_k if 0 < p.top_k < vocabulary else vocabulary for p in params]
    kth = ordered.gather(1, torch.tensor(top_k, device=device).unsqueeze(1) - 1)
    ordered = ordered.masked_fill(ordered < kth, -torch.inf)

    top_p = torch.tensor([p.top_p for p in params], device=device).unsqueeze(1)
    mass_before = ordered.softmax(dim=-1).cumsum(dim=-1).roll(1, dims=-1)
    mass_before[:, 0] = 0.0
    # top_p = 1 must keep everything although a float32 sum may reach 1 before the end.
    ordered = ordered.masked_fill((mass_before >= top_p) & (top_p < 1.0), -torch.inf)
    return torch.full_like(logits, -torch.inf).scatter_(1, order, ordered)


def draw(logprobs: Tensor, uniforms: Sequence[float]) -> Tensor:
    """Draw one token per row by inverting the cumulative distribution at `uniforms`, each in [0, 1).

    A row's token depends on its own log-probabilities and number only, never on its neighbours. Returns int64 [rows].
    """
    cumulative = logprobs.double().exp().cumsum(dim=-1)
    targets = torch.tensor(uniforms, dtype=torch.float64, device=logprobs.device).unsqueeze(1) * cumulative[:, -1:]
    # right=True: the first entry above the target, which is never a token of probability 0.
    return torch.searchsorted(cumulative, targets, right=True).squeeze(1)


def choose(logits: Tensor, logprobs: Tensor, params: Sequence[SamplingParams], uniforms: Sequence[float]) -> Tensor:
    """Return the next token of every row, int64 [rows]: the argmax for greedy rows, a draw for the others."""
    if all(p.greedy for p in params):
        return logits.argmax(dim=-1)
    tokens = draw(logprobs, uniforms)
    greedy = [i for i, p in enumerate(params) if p.greedy]
    if greedy:
        tokens[greedy] = logits[greedy].argmax(dim=-1)
    return tokens
