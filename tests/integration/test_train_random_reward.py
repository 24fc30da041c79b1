"""Property 29: a policy trained on random rewards is not promoted, one trained on the task's own is."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.tiny_policy import tiny_model, tiny_tokenizer
from tests.support.training_log import trained_group, trained_sample, write_log
from tests.support.workshop import NAME, PROMPT, Workshop, workshop
from training.gate import Evidence, Verdict, decide, mcnemar_p, minimum_detectable_effect
from training.identity import template_fingerprint

GROUPS, SIZE, PAIRS = 120, 4, 200


@torch.no_grad()
def next_token(policy: Any) -> torch.Tensor:
    """Log-probabilities of the completion's only token."""
    found: torch.Tensor = policy(input_ids=torch.tensor([PROMPT])).logits[0, -1].float().log_softmax(-1)
    return found


def solutions(logprobs: torch.Tensor) -> set[int]:
    """The likeliest tokens, which together solve the task in three to four of ten tries."""
    mass = logprobs.exp().sort(descending=True)
    return set(mass.indices[mass.values.cumsum(0) < 0.4].tolist())


def log_groups(shop: Workshop, rng: random.Random, random_reward: bool) -> None:
    logprobs = next_token(tiny_model())
    weights, right = logprobs.exp().tolist(), solutions(logprobs)
    groups = []
    for number in range(GROUPS):
        tokens = rng.choices(range(len(weights)), weights, k=SIZE)
        samples = tuple(
            trained_sample(
                index, rng.choice([0.0, 1.0]) if random_reward else float(token in right), policy=NAME,
                completion_token_ids=(token,), behavior_logprobs=(float(logprobs[token]),),
            )
            for index, token in enumerate(tokens)
        )  # fmt: skip
        groups.append(
            trained_group(
                f"g{number:03}", created_at=1.7e9 + number, base_model=NAME, policy=NAME, samples=samples,
                prompt_token_ids=PROMPT, template_fingerprint=template_fingerprint(tiny_tokenizer()),
            )
        )  # fmt: skip
    write_log(shop.place.log_dir, groups)


@pytest.mark.parametrize(("random_reward", "verdict"), [(True, Verdict.HOLD), (False, Verdict.PROMOTE)])
def test_29_only_rewards_that_mean_something_promote(tmp_path: Path, random_reward: bool, verdict: Verdict) -> None:
    rng, shop = random.Random(29), workshop(tmp_path)
    log_groups(shop, rng, random_reward)
    report = shop.train(learning_rate=1e-2, completions_per_step=32)
    arms = [next_token(policy).exp().tolist() for policy in (shop.policy(report.policy), tiny_model())]
    right = solutions(next_token(tiny_model()))
    draws = [[token in right for token in rng.choices(range(len(each)), each, k=PAIRS)] for each in arms]
    pairs = list(zip(*draws, strict=True))
    n01, n10 = pairs.count((True, False)), pairs.count((False, True))
    mde = minimum_detectable_effect(PAIRS, (n01 + n10) / PAIRS, 0.05)
    evidence = Evidence(PAIRS, PAIRS, n01, n10, mcnemar_p(n01, n10), mde, 0.05, guards=())
    assert decide(evidence).verdict is verdict
