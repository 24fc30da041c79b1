from dataclasses import replace

import pytest

from router.domain import Sampling
from router.sampling import batches, ineligible_reason, vote_sampling
from tests.support.builders import PLAIN, prompt, sample
from tests.support.fakes import ENGINE


def test_vote_samples_are_plain_unless_the_client_said_otherwise() -> None:
    assert vote_sampling(Sampling()) == PLAIN
    assert vote_sampling(Sampling(temperature=0.7, top_p=0.9, top_k=5, min_p=0.1)) == Sampling(0.7, 0.9, 5, 0.1)


def test_temperature_zero_holds_for_the_first_sample_only() -> None:
    calls = batches(Sampling(temperature=0.0), 0, 3)
    assert [(index, n, settings.temperature) for index, n, settings in calls] == [(0, 1, 0.0), (1, 2, 1.0)]


def test_equal_settings_share_one_call() -> None:
    assert batches(PLAIN, 0, 5) == [(0, 5, PLAIN)]
    assert [(index, n) for index, n, _ in batches(Sampling(), 0, 2)] == [(0, 1), (1, 1)]
    assert [(index, n) for index, n, _ in batches(Sampling(), 2, 3)] == [(2, 3)]


def test_a_seed_moves_on_with_the_sample() -> None:
    calls = batches(Sampling(seed=7), 0, 2) + batches(Sampling(seed=7), 2, 3)
    assert [(index, n, settings.seed) for index, n, settings in calls] == [(0, 1, 7), (1, 1, 8), (2, 3, 9)]


def test_the_last_seed_is_followed_by_the_first() -> None:
    [_, (_, _, settings)] = batches(Sampling(seed=2**63 - 1), 0, 2)
    assert settings.seed == -(2**63)


def test_a_plain_sample_may_train() -> None:
    assert ineligible_reason(sample(), prompt(), ENGINE) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"finish_reason": None}, "censored"),
        ({"token_ids": None}, "no_token_ids"),
        ({"logprobs": None}, "no_logprobs"),
        ({"logprobs": (-0.5, -0.5)}, "length_mismatch"),
        ({"logprobs": (-9999.0,)}, "logprob_floor"),
        ({"logprobs": (float("nan"),)}, "logprob_floor"),
        ({"logprobs": (None,)}, "logprob_floor"),
        ({"sampling": Sampling(temperature=0.7, top_p=1.0, top_k=-1, min_p=0.0)}, "sampling"),
        ({"sampling": Sampling(temperature=1.0)}, "sampling"),
        ({"sampling": replace(PLAIN, top_p=0.9)}, "sampling"),
        ({"sampling": replace(PLAIN, frequency_penalty=0.5)}, "sampling"),
    ],
)
def test_a_sample_that_may_not_train_says_why(changes: dict[str, object], reason: str) -> None:
    assert ineligible_reason(sample(**changes), prompt(), ENGINE) == reason


@pytest.mark.parametrize(
    "options",
    [{"response_format": {"type": "json_object"}}, {"logit_bias": {"5": 1.0}}, {"tool_choice": "required"}],
)
def test_a_constrained_sample_may_not_train(options: dict[str, object]) -> None:
    assert ineligible_reason(sample(), prompt(**options), ENGINE) == "constrained"


def test_raw_logprobs_may_not_train() -> None:
    assert ineligible_reason(sample(), prompt(), replace(ENGINE, logprobs_mode="raw_logprobs")) == "logprobs_mode"
