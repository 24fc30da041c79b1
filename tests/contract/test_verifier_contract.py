"""What every `router.ports.Verifier` promises: run against the isolated one and against an in-process fake."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from router.domain import CheckResult, CheckSpec
from router.enums import Outcome
from router.errors import VerifierUnavailable
from router.ports import Verifier
from router.settings import SandboxSection, VerifySection
from router.verify.protocol import Task
from router.verify.spec import parse_checks
from router.verify.verifier import open_verifier
from router.verify.worker import judge

QUEUE = 3


class InProcessVerifier:
    """The same checks in this process: no isolation, no deadline, one candidate at a time."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def verify(self, checks: Sequence[CheckSpec], text: str) -> tuple[CheckResult, ...]:
        if not self.available(checks):
            raise VerifierUnavailable("busy")
        self._waiting += 1
        async with self._turn:
            self._waiting -= 1
            await asyncio.sleep(0)
            return tuple(self._result(check, text) for check in checks)

    def available(self, checks: Sequence[CheckSpec]) -> bool:
        return self._waiting < QUEUE

    def idle(self) -> bool:
        return not self._turn.locked()

    @property
    def down(self) -> tuple[str, ...]:
        return ()

    @staticmethod
    def _result(check: CheckSpec, text: str) -> CheckResult:
        found = judge(Task(check.type, dict(check.params)), text)
        return CheckResult(
            check.id, check.type, check.klass, found.outcome, found.score, 0.0, check.version, found.detail
        )


@asynccontextmanager
async def fake() -> AsyncIterator[Verifier]:
    yield InProcessVerifier()


@asynccontextmanager
async def isolated() -> AsyncIterator[Verifier]:
    async with open_verifier(VerifySection(workers=1, queue=QUEUE), SandboxSection(backend="off")) as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[isolated, fake], ids=["isolated", "fake"])
async def verifier(request: pytest.FixtureRequest) -> AsyncIterator[Verifier]:
    async with request.param() as ready:
        yield ready


pytestmark = pytest.mark.asyncio(loop_scope="module")

CHECKS = parse_checks(
    [
        {"type": "math", "reference": r"2\sqrt{2}", "id": "m"},
        {"type": "numeric", "reference": 5, "required": False},
        {"type": "arithmetic_steps"},
        {"type": "json_schema", "schema": True},
    ],
    where="checks",
    default_timeout_s=5.0,
)


async def test_one_result_a_check_in_order(verifier: Verifier) -> None:
    results = await verifier.verify(CHECKS, r"1 + 1 = 2, so \boxed{\sqrt{8}}")
    assert [(r.id, r.type, r.klass, r.version) for r in results] == [(c.id, c.type, c.klass, c.version) for c in CHECKS]
    assert [r.outcome for r in results] == [Outcome.PASS, Outcome.FAIL, Outcome.PASS, Outcome.FAIL]
    assert [r.score for r in results] == [1.0, 0.0, 1.0, 0.0]


async def test_no_checks_no_results(verifier: Verifier) -> None:
    assert await verifier.verify((), "anything") == ()


async def test_the_same_question_has_the_same_verdict_whatever_ran_before(verifier: Verifier) -> None:
    text = r"\boxed{\sqrt{8}}"
    first = await verifier.verify(CHECKS, text)
    for other in (r"\boxed{x^2 + \pi}", r"\boxed{9^{9^9}}", "", r"\boxed{\sqrt{7}}"):
        await verifier.verify(CHECKS, other)
    second = await verifier.verify(CHECKS, text)
    assert [(r.outcome, r.score, r.detail) for r in first] == [(r.outcome, r.score, r.detail) for r in second]


async def test_scores_only_with_a_verdict_and_no_secrets_in_details(verifier: Verifier) -> None:
    secret = parse_checks(
        [{"type": "numeric", "reference": 73519}, {"type": "math", "reference": r"\sqrt{73519}"}],
        where="checks",
        default_timeout_s=5.0,
    )
    for text in ("Answer: 73518", r"\boxed{5 +}", "", r"\boxed{\sqrt{73520}}"):
        for result in await verifier.verify(secret, text):
            assert (result.score is not None) == (result.outcome in (Outcome.PASS, Outcome.FAIL))
            assert "735" not in result.detail


async def test_a_full_queue_refuses_and_recovers(verifier: Verifier) -> None:
    assert verifier.available(CHECKS)
    asked = [asyncio.create_task(verifier.verify(CHECKS, r"\boxed{\sqrt{8}}")) for _ in range(QUEUE + 8)]
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, VerifierUnavailable)]
    assert 0 < len(refused) < len(asked)
    assert verifier.available(CHECKS)
    assert len(await verifier.verify(CHECKS, "")) == len(CHECKS)
