from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from router.domain import Sampling
from router.enums import Route
from router.plan import Plan
from router.simulation.baselines import adaptive_consistency, always, early_stopping_consistency, one_at_a_time, oracle
from router.simulation.problem import Problem
from router.simulation.replay import Run, served
from router.stopping import HARD
from tests.support.banks import bank_of


def shaped(problem: Problem, rights: str, lengths: list[int]) -> Problem:
    """A problem whose samples are right (`+`), or wrong with the answer a letter stands for, of these lengths."""
    samples = []
    for index, (right, length) in enumerate(zip(rights, lengths, strict=True)):
        donor = next(each for each, won in zip(problem.samples, problem.solved, strict=True) if won is (right == "+"))
        sample = replace(donor.sample, index=index, token_ids=tuple(range(length)))
        samples.append(replace(donor, sample=sample, answer_key="right" if right == "+" else right))
    return replace(problem, samples=tuple(samples), solved=tuple(right == "+" for right in rights))


@pytest.fixture
async def mixed(tmp_path: Path) -> Problem:
    """A problem with right and wrong samples."""
    return next(each for each in await bank_of(tmp_path, 20) if len(set(each.solved)) == 2)


def test_a_wave_is_cut_where_its_first_pass_ended(mixed: Problem) -> None:
    plan = Plan(1, 5, oracle=True, quorum=0.9, belief=HARD)
    run = served(shaped(mixed, "a+aaa", [30, 10, 5, 5, 5]), Route.VOTE, plan)
    assert (run.solved, run.samples, run.waves, run.completion_tokens) == (1, 2, 1, 20)
    assert run.prompt_tokens == 2 * mixed.prompt_tokens  # the first sample, of the client's settings, is a call apart


def test_the_prompt_is_billed_once_a_call(mixed: Problem) -> None:
    plain = replace(mixed.prompt, sampling=Sampling(temperature=1.0, top_p=1.0, top_k=-1, min_p=0.0))
    assert always(5)(mixed).prompt_tokens == 2 * mixed.prompt_tokens
    assert always(5)(replace(mixed, prompt=plain)).prompt_tokens == mixed.prompt_tokens


def test_a_single_sample_is_escalated_only_when_it_fails(mixed: Problem) -> None:
    plan = Plan(1, 5, oracle=True, quorum=0.9)
    assert served(shaped(mixed, "+aaaa", [10] * 5), Route.SINGLE, plan) == Run(1, 1, 1, 10, mixed.prompt_tokens)
    run = served(shaped(mixed, "aa+aa", [10] * 5), Route.SINGLE, plan)
    assert (run.solved, run.samples, run.waves) == (1, 3, 2)
    unchecked = shaped(mixed.unchecked(), "aa+++", [10] * 5)
    assert served(unchecked, Route.SINGLE, structs.replace(plan, oracle=False)).samples == 1


@pytest.mark.parametrize(
    ("rights", "samples", "solved"), [("+aaaa", 1, 1), ("a+aaa", 2, 1), ("aaaa+", 5, 1), ("aaaaa", 5, 0)]
)
def test_one_at_a_time_stops_at_the_first_pass(mixed: Problem, rights: str, samples: int, solved: int) -> None:
    run = one_at_a_time(shaped(mixed, rights, [10] * 5))
    assert (run.samples, run.waves, run.solved) == (samples, samples, solved)


def test_the_literatures_rules_stop_where_they_should(mixed: Problem) -> None:
    vote = mixed.unchecked()
    assert adaptive_consistency(shaped(vote, "+++++", [10] * 5)).samples == 4
    assert adaptive_consistency(shaped(vote, "+a+++", [10] * 5)).samples == 5
    assert early_stopping_consistency(shaped(vote, "++aaa", [10] * 5)).samples == 2
    assert early_stopping_consistency(shaped(vote, "+a++a", [10] * 5)).samples == 4


def test_the_oracle_is_the_cheapest_count_that_solves(mixed: Problem) -> None:
    vote = mixed.unchecked()
    assert oracle(shaped(vote, "aa+++", [10] * 5)).samples == 4  # a tie goes to the surer answer
    assert oracle(shaped(vote, "aaaaa", [10] * 5)).samples == 1
    assert always(5)(shaped(vote, "aab++", [10] * 5)).samples == 5


def test_without_its_check_a_problem_keeps_its_truth(mixed: Problem) -> None:
    vote = mixed.unchecked()
    assert vote.solved == mixed.solved and not vote.spec.has_oracle
    assert not any(candidate.verdict.verified for candidate in vote.samples)
    order = (4, 3, 2, 1, 0)
    turned = vote.in_order(order)
    assert [each.sample.index for each in turned.samples] == [0, 1, 2, 3, 4]
    assert turned.solved == mixed.solved[::-1]
