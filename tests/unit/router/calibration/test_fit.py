import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from router.calibration.features import PROMPT_FEATURES, SIGNALS, STEPS, prompt_features, signals, steps
from router.calibration.fit import Fitted, fit
from router.calibration.measure import auc, brier, calibration_error, reliability
from router.calibration.model import MAX_HISTORY
from router.calibration.observe import MAX_WEIGHT, Observation, SampleSeen
from router.calibration.regression import Design
from router.domain import Candidate, CheckResult, Verdict
from router.enums import CheckClass, Outcome, TaskKind
from router.errors import CalibrationError
from router.simulation.observe import observation
from tests.support.banks import bank_of
from tests.support.builders import prompt, sample


@pytest.fixture(scope="module")
def observations(tmp_path_factory: pytest.TempPathFactory) -> list[Observation]:
    problems = asyncio.run(bank_of(tmp_path_factory.mktemp("bank"), 400, seed=3))
    return list(map(observation, problems))


@pytest.fixture(scope="module")
def fitted(observations: list[Observation]) -> Fitted:
    return learn(observations)


def learn(observations: Sequence[Observation]) -> Fitted:
    return fit(observations, policy="base", source="bank", now=0.0)


def test_held_out_chances_are_calibrated_and_beat_the_mean(fitted: Fitted) -> None:
    quality = fitted.calibration.quality
    assert quality.ece <= 0.05
    assert quality.ece_floor[0] <= quality.ece <= quality.ece_floor[2]
    assert quality.brier < quality.base_brier - 0.02 and quality.auc > 0.7


def test_what_was_fitted_is_what_serving_computes(fitted: Fitted, observations: list[Observation]) -> None:
    chances = [fitted.calibration.solves(each.features) for each in observations]
    seen = [won for each in observations for won in (sample.solved for sample in each.samples)]
    told = [chance for chance, each in zip(chances, observations, strict=True) for _ in each.samples]
    assert brier(told, seen) <= fitted.calibration.quality.brier + 0.01
    assert len(fitted.held_out) == len(observations)


def test_a_surer_sample_is_better_evidence(fitted: Fitted) -> None:
    sure, unsure = (sample(logprobs=(level,) * 20) for level in (-0.05, -0.5))
    assert fitted.calibration.evidence(sure, ()) > 0 > fitted.calibration.evidence(unsure, ())
    assert fitted.calibration.evidence(sample(logprobs=None), ()) == 0


def test_a_measured_check_adds_its_log_odds(observations: list[Observation]) -> None:
    told = [
        replace(
            each,
            samples=tuple(
                replace(one, checks=(("format", Outcome.PASS if one.solved else Outcome.FAIL),)) for one in each.samples
            ),
        )
        for each in observations
    ]
    calibration = learn(told).calibration
    rates = calibration.rates["format"]
    assert rates.true_pass > 0.99 and rates.false_pass < 0.01
    result = CheckResult("f", "format", CheckClass.SOFT, Outcome.FAIL, 0.0, 1.0, "1")
    assert rates.log_odds(Outcome.FAIL) == pytest.approx(math.log((1 - rates.true_pass) / (1 - rates.false_pass)))
    assert calibration.evidence(sample(logprobs=None), (result,)) < 0
    assert rates.log_odds(Outcome.ERROR) == 0


def process(outcome: Outcome, score: float | None, coverage: float | None) -> CheckResult:
    return CheckResult("s", "arithmetic_steps", CheckClass.PROCESS, outcome, score, 1.0, "1", coverage=coverage)


def test_a_process_check_counts_by_what_it_covers(observations: list[Observation]) -> None:
    held, half = process(Outcome.PASS, 1.0, 1.0), process(Outcome.FAIL, 0.5, 1.0)
    told = [
        replace(
            each,
            samples=tuple(
                replace(one, steps=(("arithmetic_steps", steps(held if one.solved else half) or ()),))
                for one in each.samples
            ),
        )
        for each in observations[:100]
    ]
    calibration, plain = learn(told).calibration, sample(logprobs=None)
    assert calibration.rates == {}
    assert calibration.evidence(plain, (held,)) > 0.5 > -0.5 > calibration.evidence(plain, (half,))
    third = process(Outcome.FAIL, 2 / 3, 0.9)
    assert calibration.evidence(plain, (held,)) > calibration.evidence(plain, (third,))
    assert calibration.evidence(plain, (third,)) > calibration.evidence(plain, (half,))
    for unknown in (process(Outcome.ERROR, None, None), process(Outcome.PASS, 1.0, None)):  # the last of an old record
        assert calibration.evidence(plain, (unknown,)) == 0


def test_an_answer_without_steps_is_told_from_one_that_could_not_be_read() -> None:
    assert steps(process(Outcome.SKIPPED, None, None)) == (0.0, 0.0, 0.0, 1.0)
    assert steps(process(Outcome.SKIPPED, None, 0.0)) == (0.0, 0.0, 0.0, 0.0)
    assert steps(process(Outcome.FAIL, 0.5, 0.8)) == (0.8, 0.4, 1.0, 0.0)
    assert steps(process(Outcome.PASS, 1.0, 0.8)) == (0.8, 0.8, 0.0, 0.0)
    assert len(STEPS) == 4


def asked_by(tenant: str, profile: str, wins: Sequence[bool], template: Observation) -> list[Observation]:
    """The same prompt asked by a tenant under a profile, each time with one sample."""
    features = prompt_features(prompt("What is 2 + 2?"), TaskKind.NUMBER, profile, tenant)
    one = template.samples[0]
    return [replace(template, features=features, samples=(replace(one, solved=won),)) for won in wins]


def test_a_tenants_history_is_shrunk_to_its_profiles_and_that_to_the_whole(observations: list[Observation]) -> None:
    asked = [
        *asked_by("a", "sums@1", [True] * 54 + [False] * 6, observations[0]),
        *asked_by("b", "sums@1", [True] * 12 + [False] * 48, observations[0]),
        *asked_by("few", "sums@1", [True] * 2, observations[0]),
        *asked_by("a", "proofs@1", [True] * 4 + [False] * 36, observations[0]),
    ]
    found = learn(asked).calibration

    def chance(tenant: str, profile: str) -> float:
        return found.solves(prompt_features(prompt("What is 2 + 2?"), TaskKind.NUMBER, profile, tenant))

    assert chance("a", "sums@1") > 0.75 > chance("few", "sums@1") > chance("new", "sums@1") > chance("b", "sums@1")
    assert chance("a", "proofs@1") == chance("new", "proofs@1") < 0.3  # its only tenant is the profile
    assert chance("new", "proofs@1") < chance("new", "other@1") < chance("new", "sums@1")
    assert learn(asked[::-1]).calibration.history.keys() == found.history.keys()


def test_history_is_bounded_and_keeps_whose_prompts_are_most(observations: list[Observation]) -> None:
    often = asked_by("often", "sums@1", [True, False] * 20, observations[0])
    once = [each for n in range(700) for each in asked_by(f"{n}", "sums@1", [n % 2 == 0], observations[0])]
    design = Design.of([*once, *often])
    assert len(design.histories) == MAX_HISTORY and design.histories[0] == "sums@1 often"


def test_a_rare_group_counts_for_those_that_were_not_drawn(observations: list[Observation]) -> None:
    solved = [each for each in observations if each.solved == 5][:40]
    failed = [each for each in observations if each.solved == 0][:40]
    assert len(solved) >= 20 and len(failed) >= 20
    rare = [replace(each, propensity=0.1) for each in solved] + failed
    assert replace(solved[0], propensity=0.001).weight == MAX_WEIGHT
    plain = learn(solved + failed).calibration
    weighed = learn(rare).calibration
    assert weighed.intercept > plain.intercept + 0.5


@pytest.mark.parametrize("solved", [True, False])
def test_one_class_only_is_refused(observations: list[Observation], solved: bool) -> None:
    same = [replace(each, samples=tuple(replace(one, solved=solved) for one in each.samples)) for each in observations]
    with pytest.raises(CalibrationError, match="nothing to tell apart: the heuristic stays"):
        learn(same)


def test_too_few_prompts_and_nan_features_are_refused(observations: list[Observation]) -> None:
    with pytest.raises(CalibrationError, match="39 prompts have a judged sample and 40 are needed"):
        learn(observations[:39])
    broken = replace(observations[0].features, dense=(math.nan,) * len(PROMPT_FEATURES))
    with pytest.raises(CalibrationError, match="not a finite number"):
        learn([replace(observations[0], features=broken), *observations[1:]])


def test_features_have_the_names_they_are_listed_by() -> None:
    features = prompt_features(prompt("Add 12 and 1,345. What is it?"), TaskKind.NUMBER, "gsm8k")
    assert len(features.dense) == len(PROMPT_FEATURES)
    named = dict(zip(PROMPT_FEATURES, features.dense, strict=True))
    assert named["longest number"] == len("1,345.") and named["numbers"] == pytest.approx(math.log1p(2))
    assert features != prompt_features(prompt("Add 12 and 1,345. What is it?"), TaskKind.NUMBER, "other")
    long = prompt_features(prompt("one 1 " + "word " * 5000 + "last 22 is?"), TaskKind.NUMBER)
    assert long.dense[PROMPT_FEATURES.index("longest number")] == 2 and len(long.hashed) < 20
    read = signals(sample(logprobs=(-1.0, -2.0, -3.0, -4.0)))
    assert read is not None and dict(zip(SIGNALS, read, strict=True))["tail logprob"] == -4.0
    assert prompt_features(prompt(""), TaskKind.OPEN).hashed


def test_measures_of_known_predictions() -> None:
    chances, happened = [0.1] * 10 + [0.9] * 10, [False] * 9 + [True] + [True] * 9 + [False]
    assert calibration_error(reliability(chances, happened)) == pytest.approx(0.0)
    assert auc(chances, happened) == pytest.approx(0.9)
    assert brier([1.0, 0.0], [True, True]) == 0.5
    assert auc([0.5, 0.5], [True, False]) == 0.5
    assert calibration_error(reliability([1.0] * 4, [True, True, False, False])) == 0.5


def test_lengths_are_those_of_the_log_probabilities_where_an_engine_returns_no_ids() -> None:
    known = Candidate(sample(token_ids=None, logprobs=(-0.1,) * 7), "1", (), Verdict(Outcome.PASS, None, 0, False))
    assert SampleSeen.of(known, solved=True).tokens == 7


def test_samples_without_a_length_are_refused_for_that_reason(observations: list[Observation]) -> None:
    bare = [replace(each, samples=tuple(replace(one, tokens=0) for one in each.samples)) for each in observations[:50]]
    with pytest.raises(CalibrationError, match="no sample has token ids or log-probabilities"):
        learn(bare)
