import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from router.route import RouterSettings
from router.simulation.study import LEARNED, Options, Study, View, study
from router.simulation.summary import Comparison, PolicySummary, Price
from tests.support.banks import bank_of

OPTIONS = Options(RouterSettings(threshold=0.5, quorum=0.9, max_samples=5, audit_share=0.0), orders=2)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Study:
    problems = asyncio.run(bank_of(tmp_path_factory.mktemp("bank"), 100))
    return study(problems, Options(OPTIONS.router, orders=2, price=Price(1.0, 2.0)))


def policies(view: View) -> Mapping[str, PolicySummary]:
    return {each.name: each for each in view.policies}


def against(view: View, name: str, reference: str) -> Comparison:
    return next(each for each in view.comparisons if (each.name, each.reference) == (name, reference))


def test_with_a_check_the_plan_keeps_the_solves_for_few_tokens_in_fewer_waves(found: Study) -> None:
    checked = found.views[0]
    for name in ("plan", f"plan, {LEARNED}"):
        assert against(checked, name, "always-5").solve_difference.value == 0
        compared = against(checked, name, "one at a time")
        assert compared.token_ratio.value is not None and compared.token_ratio.value <= 1.10
        assert compared.wave_ratio.high is not None and compared.wave_ratio.high < 0.9


def test_a_vote_needs_no_more_tokens_than_adaptive_consistency(found: Study) -> None:
    compared = against(found.views[1], "plan", "Adaptive-Consistency")
    assert compared.token_ratio.value is not None and compared.token_ratio.value <= 1.0
    assert compared.solve_difference.high is not None and compared.solve_difference.high >= 0


def test_the_bounds_are_what_they_are_called(found: Study) -> None:
    for view in found.views:
        table = policies(view)
        assert table["always-1"].headroom.value == 0 and table["oracle"].headroom.value == 1
        fixed = [table[f"always-{count}"].solve_rate.value or 0 for count in range(1, 6)]
        assert max(fixed) <= (table["oracle"].solve_rate.value or 0)  # another weighting of the votes can beat it
        assert table["always-5"].samples.value == pytest.approx(5)
        assert table["always-1"].waves.value == pytest.approx(1)
        assert table["plan"].cost_per_solved is not None


def test_a_learned_router_beats_chance_where_difficulty_can_be_read(found: Study) -> None:
    for view in found.views:
        lead = next(curve.lead for curve in view.curves if curve.name == "random")
        assert lead is not None and lead.low is not None and lead.low > 0
    assert found.fitted is not None and found.fitted.calibration.quality.auc > 0.7


async def test_the_same_seed_gives_the_same_study(tmp_path: Path, found: Study) -> None:
    problems = await bank_of(tmp_path, 40)
    assert study(problems, OPTIONS) == study(problems, OPTIONS)


async def test_too_few_prompts_are_replayed_without_learning(tmp_path: Path) -> None:
    small = study(await bank_of(tmp_path, 20), OPTIONS)
    assert small.fitted is None and "20 prompts" in small.unfitted
    assert {curve.name for curve in small.views[0].curves} == {"random", "prompt length", "heuristic", "kNN"}


def test_every_router_elects_with_the_weights_of_the_calibration(found: Study) -> None:
    """The lead of the learned one is that of its routing: nearly the plan for all solves what all of it solves."""
    vote = found.views[1]
    plain, weighed = (policies(vote)[name].solve_rate.value or 0.0 for name in ("plan", f"plan, {LEARNED}"))
    most = {curve.name: curve.solve_rates[-1].value or 0.0 for curve in vote.curves}
    assert all(plain < (plain + weighed) / 2 < solved <= weighed for solved in most.values())
