"""The one verifier: pure and sandboxed checks together, and what it does without a sandbox."""

from __future__ import annotations

import pytest

from router.enums import Outcome, Tier
from router.sandbox.sandbox import OFF, Sandbox
from router.settings import SandboxSection, VerifySection
from router.verify.limits import MAX_TEXT_CHARS
from router.verify.pool import WorkerPool
from router.verify.spec import parse_checks
from router.verify.verifier import IsolatedVerifier, open_verifier
from tests.support.sandboxes import launcher_or_skip

CHECKS = parse_checks(
    [
        {"type": "python_tests", "id": "tests", "entry": "f", "cases": [{"expect": 42}]},
        {"type": "regex", "id": "pattern", "pattern": "f", "match": "search"},
        {"type": "python_tests", "id": "more", "entry": "f", "cases": [{"expect": 43}], "required": False},
    ],
    where="checks",
    default_timeout_s=3.0,
)


async def test_both_kinds_in_the_order_given() -> None:
    launcher_or_skip(Tier.LANDLOCK)
    async with open_verifier(VerifySection(workers=1), SandboxSection(warm=1)) as verifier:
        assert verifier.down == () and verifier.available(CHECKS) and verifier.idle()
        results = await verifier.verify(CHECKS, "```\ndef f(): return 42\n```")
        assert [(result.id, result.outcome) for result in results] == [
            ("tests", Outcome.PASS),
            ("pattern", Outcome.PASS),
            ("more", Outcome.FAIL),
        ]
        assert [result.version for result in results] == [check.version for check in CHECKS]
        assert all(result.ms > 0 for result in results)
        results = await verifier.verify(CHECKS, "f" * (MAX_TEXT_CHARS + 1))
        assert {result.outcome for result in results} == {Outcome.ERROR}


@pytest.mark.parametrize(("fault", "down"), [(OFF, ()), ("untrusted code connects", ("sandbox",))])
async def test_without_a_sandbox_only_the_checks_that_need_it_cannot_run(fault: str, down: tuple[str, ...]) -> None:
    async with WorkerPool(workers=1) as pool:
        verifier = IsolatedVerifier(pool, Sandbox(None, fault=fault))
        assert verifier.down == down and verifier.idle()
        assert verifier.available(CHECKS[1:2]) and not verifier.available(CHECKS)
        tests, pattern, _ = await verifier.verify(CHECKS, "def f(): return 42")
        assert (tests.outcome, tests.score) == (Outcome.ERROR, None) and pattern.outcome is Outcome.PASS
