"""How far the policy has moved from the one that was logged."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch import Tensor

from training.collate import Inputs

_LOG_RATIO_BOUND = 20.0  # exp(20) is beyond every limit, and still finite


def k3(log_ratio: Tensor) -> Tensor:
    """Estimate of KL(logged || policy) in nats, a token: `x - 1 - log x`, x the ratio of policy to logged probability.

    Never negative, 0 where they agree, and unbiased for tokens drawn from the logged policy (J. Schulman,
    "Approximating KL Divergence", 2020).
    """
    bounded = log_ratio.clamp(-_LOG_RATIO_BOUND, _LOG_RATIO_BOUND)
    return torch.expm1(bounded) - bounded


@dataclass(frozen=True, slots=True)
class Drift:
    """Over the loss tokens of one optimizer step, before its update."""

    tokens: int
    kl: float | None  # mean k3, nats a token; None, as the others, for rows that hold no logged log-probabilities
    ratio: float | None  # mean of the policy's probability of a token to the logged one
    clip_fraction: float | None  # share of tokens beyond the bound that holds for their advantage
    ess: float | None  # effective sample size of the importance weights, as a share of the tokens


def effective_share(log_ratio: Tensor) -> float:
    """Effective sample size (Kish) of the importance weights `exp(log_ratio)`, as a share of their number."""
    weights = log_ratio.double().clamp(-_LOG_RATIO_BOUND, _LOG_RATIO_BOUND).exp()
    return float(weights.sum().square() / (weights.numel() * weights.square().sum()))


class DriftMeter:
    """Adds up micro-batches until `take`."""

    def __init__(self, clip_low: float, clip_high: float) -> None:
        self._low, self._high = clip_low, clip_high
        self._sums = torch.zeros(6, dtype=torch.float64)

    def add(self, logprobs: Tensor, inputs: Inputs) -> None:
        """Count one micro-batch; `logprobs` [B, T] are the policy's of the completion tokens."""
        mask = (inputs["completion_mask"] * inputs["tool_mask"]).bool()
        self._sums[0] += float(mask.sum())
        if "old_per_token_logps" not in inputs:
            return
        log_ratio = (logprobs.detach().float() - inputs["old_per_token_logps"])[mask]
        bounded = log_ratio.clamp(-_LOG_RATIO_BOUND, _LOG_RATIO_BOUND).double()
        ratio, advantage = bounded.exp(), inputs["advantages"][mask]
        clipped = ((ratio < self._low) & (advantage < 0)) | ((ratio > self._high) & (advantage > 0))
        counts = (ratio.numel(), k3(bounded).sum(), clipped.sum(), ratio.sum(), ratio.square().sum())
        self._sums[1:] += torch.tensor([float(each) for each in counts], dtype=torch.float64)

    def take(self) -> Drift:
        """What all processes counted since the last call, which each of them must make."""
        state = PartialState()
        total = reduce(self._sums.to(state.device), reduction="sum") if state.use_distributed else self._sums
        tokens, n, kl, clipped, ratio, square = total.tolist()
        self._sums.zero_()
        if not n:
            return Drift(int(tokens), None, None, None, None)
        return Drift(int(tokens), kl / n, ratio / n, clipped / n, ratio * ratio / (n * square))
