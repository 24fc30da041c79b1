"""Sampling settings of each sample of a group, and whether a sample may train a policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from math import isfinite
from typing import Any

from router.domain import EngineInfo, Prompt, Sample, Sampling

LOGPROB_FLOOR = -50.0  # below it an engine reports a floor (vLLM: -9999), not a probability
_CONSTRAINING_OPTIONS = ("logit_bias", "structured_outputs", "guided_json", "guided_regex", "guided_choice")


def vote_sampling(client: Sampling) -> Sampling:
    """Settings of every sample after the first: the plain model distribution unless the client set otherwise.

    Temperature 0 would draw the same answer again, so it holds for the first sample only (DESIGN section 2).
    """
    return replace(
        client,
        temperature=client.temperature or 1.0,
        top_p=1.0 if client.top_p is None else client.top_p,
        top_k=-1 if client.top_k is None else client.top_k,
        min_p=0.0 if client.min_p is None else client.min_p,
    )


def batches(client: Sampling, first_index: int, count: int) -> list[tuple[int, int, Sampling]]:
    """Samples `first_index` to `first_index + count`, as (first index, n, settings) of one upstream call each.

    Neighbours of equal settings share a call. A client's seed moves on by the sample's index, as an engine does within
    one call, so that no two samples repeat each other.
    """
    if first_index + count == 1:
        return [(0, 1, client)]
    later = vote_sampling(client)
    indices = range(first_index, first_index + count)
    calls = []
    for settings, group in groupby(indices, key=lambda index: client if index == 0 else later):
        members = list(group)
        seed = None if settings.seed is None else _wrapped(settings.seed + members[0])
        calls.append((members[0], len(members), replace(settings, seed=seed)))
    return calls


def _wrapped(seed: int) -> int:
    """The seed in the 64-bit range that engines take."""
    return (seed + 2**63) % 2**64 - 2**63


def ineligible_reason(sample: Sample, prompt: Prompt, engine: EngineInfo) -> str | None:
    """Why this sample's logged probabilities cannot be those of the policy, or None when it may train.

    The rule is one fixed sampling profile: temperature 1 over the whole vocabulary, processed log-probabilities, no
    grammar or bias. Anything else makes the importance ratio wrong without a sign of it. A conversation with tools is
    not one completion of one prompt.
    """
    logprobs = sample.logprobs or ()
    faults = {
        "censored": not sample.completed,
        "tool_turns": bool(sample.turns),
        "no_token_ids": not sample.token_ids,
        "no_logprobs": not logprobs,
        "logprobs_mode": engine.logprobs_mode != "processed_logprobs",
        "length_mismatch": len(logprobs) != len(sample.token_ids or ()),
        "logprob_floor": _below_floor(logprobs),
        "sampling": not _plain(sample.sampling),
        "constrained": constrained(prompt.options),
    }
    return next((reason for reason, found in faults.items() if found), None)


def _below_floor(logprobs: Sequence[float | None]) -> bool:
    """Whether any value is missing, not finite, or below the floor; sums and minima run at the speed of C."""
    values = [value for value in logprobs if value is not None]
    return len(values) != len(logprobs) or not isfinite(sum(values)) or min(values, default=0.0) < LOGPROB_FLOOR


def _plain(sampling: Sampling) -> bool:
    return (
        sampling.temperature == 1.0
        and sampling.top_p == 1.0
        and sampling.top_k in (-1, 0)
        and sampling.min_p == 0.0
        and not sampling.presence_penalty
        and not sampling.frequency_penalty
        and sampling.repetition_penalty in (None, 1.0)
    )


def constrained(options: Mapping[str, Any]) -> bool:
    """Whether a grammar or a bias shaped the distribution: its mask is not part of the logged probabilities."""
    if any(options.get(name) for name in _CONSTRAINING_OPTIONS):
        return True
    if (options.get("response_format") or {}).get("type", "text") != "text":
        return True
    return options.get("tool_choice") not in (None, "none", "auto")
