"""The simulator against the live service: the same policy on the same samples."""

import asyncio
from pathlib import Path

import pytest
from msgspec import structs

from gateway.service import AnswerService
from gateway.tenants.metering import MeteredBackend
from router.enums import Effort, Status
from router.route import Learned, Router, RouterSettings
from router.simulation.problem import Problem
from router.simulation.replay import Run, served
from router.simulation.study import fit_problems
from router.simulation.summary import Bootstrap, Columns
from tests.support.bank_backend import BankBackend, NumericVerifier
from tests.support.banks import bank_of
from tests.support.serving import call, serving

SETTINGS = RouterSettings(threshold=0.5, quorum=0.9, max_samples=5, audit_share=0.0)
PROBLEMS = 60


async def live(state_dir: Path, problems: tuple[Problem, ...], router: Router) -> list[Run]:
    """Every problem asked once."""
    backend = BankBackend({each.prompt.last_user_text: each for each in problems})
    gateway = serving(state_dir, "", backend=MeteredBackend(backend), verifier=NumericVerifier(), router=router)
    service = AnswerService(gateway.deps)

    async def ask(problem: Problem) -> Run:
        answer = await service.answer(
            await service.prepare(structs.replace(call(prompt=problem.prompt), spec=problem.spec))
        )
        found = answer.verification
        solved = found.status is Status.VERIFIED
        return Run(float(solved), found.samples, 0, answer.tokens.completion, answer.tokens.prompt)

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
    assert [run.solved for run in came] == [run.solved for run in expected]
    told, bootstrap = Columns.of(expected, None), Bootstrap(PROBLEMS, seed=0)
    interval = bootstrap.estimate(bootstrap.means(told.tokens))
    tokens = sum(run.completion_tokens for run in came) / PROBLEMS
    assert interval.low is not None and interval.high is not None and interval.low <= tokens <= interval.high
    assert tokens == pytest.approx(interval.value, rel=0.05)
