"""The bars of issue 6 on the development bank of real completions, where this machine has it."""

import asyncio
from pathlib import Path

import pytest

from router.route import RouterSettings
from router.simulation.bank import load_bank
from router.simulation.problem import judged
from router.simulation.study import LEARNED, Options, Study, study
from router.simulation.summary import Comparison
from tests.support.banks import shared_bank
from tests.support.fakes import numeric_only

BANK = shared_bank()
pytestmark = pytest.mark.skipif(BANK is None, reason="the development bank is not on this machine")


@pytest.fixture(scope="module")
def found() -> Study:
    assert isinstance(BANK, Path)
    problems = asyncio.run(judged(load_bank(BANK), numeric_only))
    return study(problems, Options(RouterSettings(0.5, 0.9, 5, 0.0), orders=5))


def against(study: Study, view: int, name: str, reference: str) -> Comparison:
    return next(each for each in study.views[view].comparisons if (each.name, each.reference) == (name, reference))


@pytest.mark.parametrize("name", ["plan", f"plan, {LEARNED}"])
def test_with_a_check(found: Study, name: str) -> None:
    """always-5's solves minus at most 1 %, at most 1.10 times the tokens of one at a time, in clearly fewer waves."""
    solves = against(found, 0, name, "always-5").solve_difference.value
    compared = against(found, 0, name, "one at a time")
    assert solves is not None and solves >= -0.01
    assert compared.token_ratio.value is not None and compared.token_ratio.value <= 1.10
    assert compared.wave_ratio.high is not None and compared.wave_ratio.high < 0.9


@pytest.mark.parametrize("name", ["plan", f"plan, {LEARNED}"])
def test_with_the_vote_alone(found: Study, name: str) -> None:
    """No more tokens than Adaptive-Consistency, at a paired difference whose interval reaches 0."""
    compared = against(found, 1, name, "Adaptive-Consistency")
    assert compared.token_ratio.value is not None and compared.token_ratio.value <= 1.0
    assert compared.solve_difference.high is not None and compared.solve_difference.high >= 0


def test_the_calibration_error_is_what_a_perfect_estimate_shows_on_so_few_prompts(found: Study) -> None:
    assert found.fitted is not None
    quality = found.fitted.calibration.quality
    assert quality.ece <= max(0.05, quality.ece_floor[2])
    assert quality.brier < quality.base_brier
