"""Whole runs on a tiny model under the other objectives: stale rows, imitation, a KL term and an entropy bonus."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from router.domain import Sampling
from router.records import GroupRecord
from tests.support.tiny_policy import tiny_model
from tests.support.training_log import write_log
from tests.support.workshop import BAD, GOOD, NAME, Workshop, logprobs, mixed_group, workshop
from training.run import METRICS


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    return workshop(tmp_path)


def promoted(shop: Workshop, start: int, name: str = NAME, groups: int = 6, **config: Any) -> str:
    """Log groups by this policy, train on them, promote what comes of it."""
    shop.log(shop.policy(name) if name != NAME else tiny_model(), groups, name, start=start)
    made = str(shop.train(**config).policy)
    shop.registry.promote(made, "test", "test")
    return made


def test_21_cispo_takes_rows_of_the_two_champions_before_and_no_older(shop: Workshop) -> None:
    first = promoted(shop, 0)
    second = promoted(shop, 100, first)
    third = promoted(shop, 200, second)
    assert shop.train().counts.dropped_groups == {"other_policy": 18}
    report = shop.train(objective="cispo")
    assert report.counts.dropped_groups == {"other_policy": 6}
    assert [(each.policy, each.rows) for each in report.staleness] == sorted([(first, 12), (second, 12)])
    assert all(0.5 < each.ess < 1 for each in report.staleness)
    assert {each.policy for each in report.identity} == {first, second}
    assert all(each.kl < 1e-9 for each in report.identity)  # recomputed with the very policy that logged them
    assert report.steps[0].kl is not None and report.steps[0].kl < 1e-9  # from the start of the run
    kept = shop.registry.get(str(report.policy)).manifest
    assert (kept["objective"], kept["parent"], kept["data"]["groups"]) == ("cispo", third, 12)
    assert sum(logprobs(shop.policy(report.policy), GOOD)) > sum(logprobs(shop.policy(third), GOOD))


def test_21_rows_that_say_too_little_of_the_champion_are_left_out(shop: Workshop) -> None:
    first = promoted(shop, 0)
    far = promoted(shop, 100, first, groups=20, learning_rate=1e-2, epochs=2, completions_per_step=2)
    shop.log(shop.policy(far), 4, far, start=200)
    report = shop.train(objective="cispo")
    worth = {each.policy: each.ess for each in report.staleness}
    assert worth[NAME] < 0.5 and worth[first] < 0.5
    assert report.counts.dropped_groups == {"low_ess": 26}
    assert report.counts.groups_kept == 4
    assert [problem.partition(":")[0] for problem in report.counts.problems] == [
        f"the rows of {name} are too far from the champion" for name in (first, NAME)
    ]


def example(number: int, good: tuple[int, ...], verified: bool = True) -> GroupRecord:
    """A group drawn hot by another policy, without log-probabilities; its first sample is verified."""
    group = mixed_group(tiny_model(), number)
    samples = [
        replace(
            each, policy="teacher", sampling=Sampling(temperature=1.7, top_p=0.5), behavior_logprobs=None,
            rl_eligible=False, ineligible_reason="sampling", completion_token_ids=good if index == 0 else BAD,
            checks=each.checks if index == 0 and verified else (),
        )
        for index, each in enumerate(group.samples)
    ]  # fmt: skip
    return replace(group, policy="teacher", samples=tuple(samples))


def test_rft_imitates_verified_rows_of_any_policy_and_at_most_four_of_a_prompt(shop: Workshop) -> None:
    base = tiny_model()
    goods = [(11, 12, 0), (11, 13, 0), (11, 12, 0), (11, 14, 0), (11, 15, 0), (11, 16, 0)]
    write_log(shop.place.log_dir, [*(example(i, ids) for i, ids in enumerate(goods)), example(9, (30, 0), False)])
    report = shop.train(mode="rft", epochs=2)
    assert report.counts.rows_kept == 4
    assert report.counts.dropped_rows == {"not_verified": 8, "repeated": 1, "over_cap": 1}
    assert report.counts.dropped_groups == {"no_rows": 1, "no_new_rows": 2}
    assert (report.identity, report.steps[0].kl) == ([], None)
    assert report.steps[0].loss == pytest.approx(-sum(sum(logprobs(base, g)) for g in set(goods[:5])) / 12, rel=1e-4)
    assert report.steps[-1].loss < report.steps[0].loss
    assert shop.registry.get(str(report.policy)).manifest["objective"] == "rft"
    assert sum(logprobs(shop.policy(report.policy), GOOD)) > sum(logprobs(base, GOOD))


def test_a_kl_term_holds_the_policy_back_and_leaves_one_adapter(shop: Workshop) -> None:
    shop.log(tiny_model(), 20)
    free, held = shop.train(), shop.train(kl_beta=5.0)
    assert held.steps[-1].kl is not None and free.steps[-1].kl is not None
    assert held.steps[-1].kl < free.steps[-1].kl
    files = {path.name for path in shop.registry.get(str(held.policy)).path.iterdir()}
    assert files == {"adapter_config.json", "adapter_model.safetensors", "manifest.json"}


def test_an_entropy_bonus_keeps_the_entropy_up(shop: Workshop) -> None:
    shop.log(tiny_model(), 20)
    free, spread = shop.train(), shop.train(entropy_bonus=1.0)
    assert spread.steps[-1].entropy > free.steps[-1].entropy
    assert spread.folder is not None
    line = json.loads((spread.folder / METRICS).read_text().splitlines()[0])
    assert line["entropy"] == pytest.approx(spread.steps[0].entropy)


def test_shaping_trains_and_is_reported_apart_from_the_outcome(shop: Workshop) -> None:
    shop.log(tiny_model(), 20)
    shaped = {
        "length_weight": 2.0,
        "length_limit": 4,
        "length_margin": 1,
    }  # the bad completion has 4 tokens, the good 3
    plain, short = shop.train(), shop.train(**shaped)
    kept = shop.registry.get(str(short.policy)).manifest["data"]
    assert kept["shaping"] == {"length": {"weight": 2.0, "mean": -0.5, "rows": 40}}
    assert kept["mean_reward"] == 0.5
    assert short.as_dict()["shaping"] == kept["shaping"]
    assert short.steps[0].loss == pytest.approx(3 * plain.steps[0].loss)  # advantages of 3 and -3, not of 1 and -1
