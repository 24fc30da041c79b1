"""The simulator against the live service: the same policy on the same samples."""

import asyncio
from pathlib import Path

import pytest
from msgspec import structs

from gateway.larger import LargerModel
from gateway.service import AnswerService
from gateway.tenants.metering import MeteredBackend
from router.enums import Effort, Status
from router.route import Learned, Router, RouterSettings
from router.settings import PriceSection
from router.simulation.problem import Problem
from router.simulation.replay import Run, served
from router.simulation.study import LargerBank, fit_problems
from router.simulation.summary import Bootstrap, Columns, Price
from tests.support.bank_backend import BankBackend, NumericVerifier
from tests.support.banks import bank_of, larger_of
from tests.support.serving import call, larger_model, serving

SETTINGS = RouterSettings(threshold=0.5, quorum=0.9, max_samples=5, audit_share=0.0)
PROBLEMS = 60


def engine(problems: tuple[Problem, ...]) -> BankBackend:
    return BankBackend({each.prompt.last_user_text: each for each in problems})


async def live(
    state_dir: Path, problems: tuple[Problem, ...], router: Router, larger: LargerModel | None = None
) -> list[Run]:
    """Every problem asked once."""
    changes = {"backend": MeteredBackend(engine(problems)), "verifier": NumericVerifier(), "larger": larger}
    gateway = serving(state_dir, "", router=router, deadline_s=600.0, **changes)
    service = AnswerService(gateway.deps)

    async def ask(problem: Problem) -> Run:
        answer = await service.answer(
            await service.prepare(structs.replace(call(prompt=problem.prompt), spec=problem.spec))
        )
        found = answer.verification
        solved = found.status is Status.VERIFIED
        total, larger = answer.billed, answer.larger
        return Run(float(solved), found.samples, 0, total.completion, total.prompt, larger.completion, larger.prompt)

    return list(await asyncio.gather(*map(ask, problems)))


def simulated(problem: Problem, router: Router) -> Run:
    decision, plan = router.decide(problem.prompt, problem.spec, Effort.MEDIUM, None, "base")
    return served(problem, decision.route, plan)


@pytest.mark.parametrize("learned", [False, True])
async def test_simulation_and_live_run_agree_within_the_interval(tmp_path: Path, learned: bool) -> None:
    problems = await bank_of(tmp_path, PROBLEMS)
    router = Router(SETTINGS)
    if learned:
        calibration = structs.replace(fit_problems(problems).calibration, policy="base")
        router = router.learning(Learned(calibration, 4 * calibration.tokens.mean))
    expected = [simulated(each, router) for each in problems]
    came = await live(tmp_path, problems, router)
    assert [(run.solved, run.prompt_tokens) for run in came] == [(run.solved, run.prompt_tokens) for run in expected]
    told, bootstrap = Columns.of(expected, None), Bootstrap(PROBLEMS, seed=0)
    interval = bootstrap.estimate(bootstrap.means(told.tokens))
    tokens = sum(run.completion_tokens for run in came) / PROBLEMS
    assert interval.low is not None and interval.high is not None and interval.low <= tokens <= interval.high
    assert tokens == pytest.approx(interval.value, rel=0.05)


@pytest.mark.parametrize("value", [None, 0.00019])
async def test_escalation_agrees_too(tmp_path: Path, value: float | None) -> None:
    """The larger model solves the same problems in both, at the same price, where it is asked at all."""
    problems, bigger = await bank_of(tmp_path, PROBLEMS), await larger_of(tmp_path, PROBLEMS)
    router, price = Router(SETTINGS), Price(0.0, 1.0, Price(0.0, 2.0))
    bank = LargerBank(bigger, 0.3, value)
    expected = []
    for number, each in enumerate(problems):
        decision, plan = router.decide(each.prompt, each.spec, Effort.MEDIUM, None, "base")
        expected.append(served(each, decision.route, plan, bank.last(number, 0, price, checked=True)))
    larger = larger_model(engine(bigger), PriceSection(input=0.0, output=2.0), usd_per_solve=value)
    came = await live(tmp_path, problems, router, larger)
    known = [(run.solved, run.larger_completion, run.prompt_tokens) for run in expected]
    assert [(run.solved, run.larger_completion, run.prompt_tokens) for run in came] == known
    asked = sum(run.larger_completion > 0 for run in expected)
    failed = sum(not any(each.solved) for each in problems)
    assert 0 < asked <= failed and (asked == failed) == (value is None)
    told = sum(run.completion_tokens for run in expected)
    assert sum(run.completion_tokens for run in came) == pytest.approx(told, rel=0.05)
