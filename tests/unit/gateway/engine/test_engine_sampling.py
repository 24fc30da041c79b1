"""Sampling: processed log-probabilities against a plain oracle, and draws that follow them."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.engine.sampling import SamplingParams, choose, draw, processed_logprobs

LOGITS = st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=12)
TRUNCATIONS = st.builds(
    SamplingParams,
    max_tokens=st.just(1),
    temperature=st.sampled_from([0.0, 0.3, 0.7, 1.0, 2.0]),
    top_p=st.sampled_from([0.05, 0.5, 0.9, 1.0]),
    top_k=st.sampled_from([0, 1, 2, 3, 50]),
    min_p=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
)


def oracle(logits: Sequence[float], params: SamplingParams) -> list[float]:
    """Probabilities by the definitions, one token at a time, in float64."""
    greedy = params.temperature < 1e-5
    scaled = [x / (1.0 if greedy else params.temperature) for x in logits]
    keep = set(range(len(logits)))
    if not greedy:
        keep = {i for i in keep if math.exp(scaled[i] - max(scaled)) >= params.min_p}
        if params.top_k:
            kth = sorted((scaled[i] for i in keep), reverse=True)[: params.top_k][-1]
            keep = {i for i in keep if scaled[i] >= kth}
        if params.top_p < 1:
            total, mass, nucleus = sum(math.exp(scaled[i] - max(scaled)) for i in keep), 0.0, set()
            for i in sorted(keep, key=lambda i: -scaled[i]):
                if mass >= params.top_p:
                    break
                nucleus.add(i)
                mass += math.exp(scaled[i] - max(scaled)) / total
            keep = nucleus
    weights = [math.exp(x - max(scaled)) if i in keep else 0.0 for i, x in enumerate(scaled)]
    return [w / sum(weights) for w in weights]


def well_separated(logits: Sequence[float]) -> bool:
    """Ties and thresholds hit exactly are resolved by rounding; the oracle has nothing to say about them."""
    ordered = sorted(logits)
    return all(b - a > 1e-3 for a, b in itertools.pairwise(ordered))


@given(LOGITS.filter(well_separated), TRUNCATIONS)
def test_processed_logprobs_match_the_definitions(logits: list[float], params: SamplingParams) -> None:
    expected = oracle(logits, params)
    got = processed_logprobs(torch.tensor([logits]), [params])[0].exp()
    near_threshold = [
        abs(sum(sorted(expected, reverse=True)[:k]) - params.top_p) < 1e-5 for k in range(1, len(logits))
    ]  # fmt: skip
    if not any(near_threshold):
        assert got.tolist() == pytest.approx(expected, abs=1e-5)


@given(st.lists(st.tuples(LOGITS, TRUNCATIONS), min_size=1, max_size=5))
def test_a_row_does_not_depend_on_its_neighbours(rows: list[tuple[list[float], SamplingParams]]) -> None:
    width = min(len(logits) for logits, _ in rows)
    logits = torch.tensor([logits[:width] for logits, _ in rows])
    params = [p for _, p in rows]
    together = processed_logprobs(logits, params)
    alone = torch.cat([processed_logprobs(logits[i : i + 1], params[i : i + 1]) for i in range(len(rows))])
    assert torch.equal(together, alone)
    assert torch.allclose(together.exp().sum(dim=-1), torch.ones(len(rows)), atol=1e-5)


@given(LOGITS, TRUNCATIONS, st.floats(0, 1, exclude_max=True))
def test_a_token_of_probability_zero_is_never_drawn(logits: list[float], params: SamplingParams, u: float) -> None:
    logprobs = processed_logprobs(torch.tensor([logits]), [params])
    token = int(draw(logprobs, [u])[0])
    assert logprobs[0, token] > -math.inf


def test_draw_inverts_the_cumulative_distribution() -> None:
    logprobs = torch.tensor([[0.2, 0.0, 0.5, 0.3]]).log().expand(5, -1)
    assert draw(logprobs, [0.0, 0.19, 0.21, 0.69, 0.9999999]).tolist() == [0, 0, 2, 2, 3]


def test_draws_follow_the_probabilities() -> None:
    probabilities = torch.tensor([0.5, 0.25, 0.15, 0.1])
    rng = random.Random(7)
    count = 20_000
    tokens = draw(probabilities.log().expand(count, -1), [rng.random() for _ in range(count)])
    frequencies = torch.bincount(tokens, minlength=4) / count
    # Five standard deviations of a binomial share.
    assert torch.all((frequencies - probabilities).abs() < 5 * (probabilities * (1 - probabilities) / count).sqrt())


def test_greedy_and_random_rows_share_a_batch() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0], [0.0, 3.0, 1.0]])
    params = [SamplingParams(1, temperature=0.0, top_k=2, top_p=0.1), SamplingParams(1)]
    logprobs = processed_logprobs(logits, params)
    tokens = choose(logits, logprobs, params, [0.999999, 0.999999])
    assert tokens.tolist() == [1, 2]
    # Greedy ignores temperature and truncation, in the report too, as vLLM's processed mode does.
    assert torch.equal(logprobs[0], logprobs[1])


@settings(max_examples=20)
@given(st.integers(1, 5))
def test_a_tiny_temperature_stays_finite(exponent: int) -> None:
    logprobs = processed_logprobs(torch.tensor([[100.0, -100.0]]), [SamplingParams(1, temperature=2 * 10**-exponent)])
    assert not torch.isnan(logprobs).any()
