"""Second verifiers read a share of verified answers: they agree, or a person is asked; no request ever waits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.answer import Answer
from gateway.audits import Audits
from gateway.telemetry.metrics import Metrics
from router.domain import CheckResult, CheckSpec
from router.enums import CheckClass, Outcome
from router.errors import VerifierUnavailable
from router.log.labels import Label, LabelSource, TrustedLabels, append_label, read_labels
from router.verify.versions import runs
from tests.support.asgi import until
from tests.support.builders import check_spec
from tests.support.fakes import TextVerifier
from tests.support.serving import EASY, Serving, call, serving

RIGHT = check_spec("right")
RESULT = 'thinktwice_audits_total{result="%s",verifier="exact"}'


class TwoVerifiers(TextVerifier):
    """Gives checks of the first kind the text's word, and the second verifiers the outcome `second`."""

    second = Outcome.PASS
    gone = False

    async def verify(self, checks: Sequence[CheckSpec], text: str) -> tuple[CheckResult, ...]:
        if runs(checks[0]) == checks[0].type:
            return await super().verify(checks, text)
        if self.gone:
            raise VerifierUnavailable("gone")
        return tuple(
            CheckResult(check.id, check.type, check.klass, self.second, None, 1.0, check.version) for check in checks
        )


def audited(
    tmp_path: Path, share: float = 1.0, append: Callable[[Label], None] | None = None
) -> tuple[Serving, TwoVerifiers, Audits]:
    verifier, metrics = TwoVerifiers(), Metrics()
    audits = Audits(verifier, metrics, append or (lambda label: append_label(tmp_path, label)), share, draw=lambda: 0.5)
    return serving(tmp_path, "right, and a secret", verifier=verifier, metrics=metrics, audits=audits), verifier, audits


@asynccontextmanager
async def auditing(audits: Audits) -> AsyncIterator[None]:
    running = asyncio.create_task(audits.run())
    yield
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def ask(gateway: Serving, *checks: CheckSpec, text: str = EASY) -> Answer:
    return await gateway.service.answer(await gateway.service.prepare(call(text, *(checks or (RIGHT,)))))


def labels(tmp_path: Path) -> list[Label | None]:
    return [label for _, label in read_labels(tmp_path)]


async def test_agreement_is_counted_and_leaves_no_label(tmp_path: Path) -> None:
    gateway, _, audits = audited(tmp_path)
    async with auditing(audits):
        await ask(gateway)
        await until(lambda: gateway.metric(RESULT % "agree") == 1)
    assert labels(tmp_path) == []


async def test_disagreement_asks_a_person_and_says_nothing_of_the_outcome(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gateway, verifier, audits = audited(tmp_path)
    verifier.second = Outcome.FAIL
    with caplog.at_level(logging.WARNING):
        async with auditing(audits):
            answer = await ask(gateway)
            await until(lambda: bool(labels(tmp_path)))
    (label,) = labels(tmp_path)
    assert label is not None and label.value is None
    assert (label.group_id, label.source, label.tenant, label.author) == (
        answer.verification.group_id,
        LabelSource.AUDIT,
        "local",
        "exact@second-4",
    )
    assert gateway.metric(RESULT % "disagree") == 1
    assert label.group_id in caplog.text and "secret" not in caplog.text + (label.note or "")
    assert TrustedLabels([label]).of(gateway.log.records[0]) is None  # nothing was rewarded, nothing taken back
    assert answer.verification.status == "verified"


@pytest.mark.parametrize("gone", [True, False])
async def test_an_error_of_ours_is_no_disagreement(tmp_path: Path, gone: bool) -> None:
    gateway, verifier, audits = audited(tmp_path)
    verifier.second, verifier.gone = Outcome.TIMEOUT, gone
    async with auditing(audits):
        await ask(gateway)
        await until(lambda: gateway.metric(RESULT % "error") == 1)
    assert labels(tmp_path) == []


async def test_a_label_that_cannot_be_written_does_not_end_the_audits(tmp_path: Path) -> None:
    def full(label: Label) -> None:
        raise OSError(28, "No space left on device")

    gateway, verifier, audits = audited(tmp_path, append=full)
    verifier.second = Outcome.FAIL
    async with auditing(audits):
        for asked in (1, 2):
            await ask(gateway, text=f"{EASY} {asked}")
            await until(lambda asked=asked: gateway.metric(RESULT % "disagree") == asked)


async def test_only_what_was_verified_and_has_a_second_verifier_is_read(tmp_path: Path) -> None:
    gateway, verifier, audits = audited(tmp_path)
    soft = replace(check_spec("right", klass=CheckClass.PROCESS, type="arithmetic_steps"), id="c1")
    wrong = check_spec("wrong")
    async with auditing(audits):
        await ask(gateway, wrong)
        await ask(gateway, soft)
        await ask(gateway, RIGHT, soft)
        await until(lambda: gateway.metric(RESULT % "agree") == 1)
    assert verifier.second is Outcome.PASS
    assert gateway.metric('thinktwice_audits_total{result="agree",verifier="math"}') == 0


@pytest.mark.parametrize(("type_", "read"), [("python_tests", 1), ("sql", 1), ("command", 0)])
async def test_code_is_read_again_and_an_operators_command_is_not(tmp_path: Path, type_: str, read: int) -> None:
    gateway, verifier, audits = audited(tmp_path)
    await ask(gateway, check_spec("right", type=type_))
    async with auditing(audits):
        await asyncio.sleep(0.15)
    assert verifier.calls == 1
    assert gateway.metric(f'thinktwice_audits_total{{result="agree",verifier="{type_}"}}') == read


async def test_the_share_is_drawn_and_no_request_waits(tmp_path: Path) -> None:
    gateway, verifier, audits = audited(tmp_path, share=0.4)
    async with auditing(audits):
        await ask(gateway)
        await asyncio.sleep(0.15)
    assert verifier.calls == 1 and gateway.metric(RESULT % "agree") == 0
    gateway, verifier, audits = audited(tmp_path)
    verifier.free = False
    for number in range(40):  # nobody reads yet: 32 are kept
        await ask(gateway, text=f"{EASY} {number}")
    assert gateway.metric(RESULT % "dropped") == 8
    async with auditing(audits):
        await until(lambda: gateway.metric(RESULT % "dropped") >= 9)
