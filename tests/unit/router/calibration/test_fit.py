import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from router.calibration.features import PROMPT_FEATURES, SIGNALS, prompt_features, signals
from router.calibration.fit import Fitted, fit
from router.calibration.measure import auc, brier, calibration_error, reliability
from router.calibration.observe import MAX_WEIGHT, Observation
from router.domain import CheckResult
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
