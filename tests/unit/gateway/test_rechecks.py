"""A share of hits is checked again: what no longer verifies is removed, and no request ever waits for it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from gateway.answer import Answer
from gateway.cache.verified_answers import CacheKey
from router.domain import CheckResult, CheckSpec
from router.enums import CheckClass
from router.errors import VerifierUnavailable
from router.settings import RedisSection
from tests.support.asgi import until
from tests.support.builders import check_spec
from tests.support.fakes import Line, TextVerifier
from tests.support.groups import answer
from tests.support.serving import EASY, Serving, call, serving

RIGHT = check_spec("right")
ALL, NONE = RedisSection(recheck_share=1.0), RedisSection(recheck_share=0.0)
RESULT = 'thinktwice_cache_rechecks_total{result="%s"}'


class ChangeableVerifier(TextVerifier):
    """Reads `text` instead of the candidate once it is set, and is gone once `gone` is."""

    text: str | None = None
    gone = False

    async def verify(self, checks: Sequence[CheckSpec], text: str) -> tuple[CheckResult, ...]:
        if self.gone:
            raise VerifierUnavailable("gone")
        return await super().verify(checks, self.text if self.text is not None else text)


async def ask(gateway: Serving) -> Answer:
    return await gateway.service.answer(await gateway.service.prepare(call(EASY, RIGHT)))


@asynccontextmanager
async def rechecking(gateway: Serving) -> AsyncIterator[None]:
    running = asyncio.create_task(gateway.service.rechecks.run())
    yield
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


def gateway_of(tmp_path: Path, caching: RedisSection = ALL) -> tuple[Serving, ChangeableVerifier]:
    verifier = ChangeableVerifier()
    return serving(tmp_path, "right, and a secret", verifier=verifier, caching=caching), verifier


async def test_a_hit_that_still_verifies_stays(tmp_path: Path) -> None:
    gateway, verifier = gateway_of(tmp_path)
    async with rechecking(gateway):
        await ask(gateway)
        assert verifier.calls == 1
        assert (await ask(gateway)).verification.cached
        await until(lambda: gateway.metric(RESULT % "agree") == 1)
    assert verifier.calls == 2 and (await ask(gateway)).verification.cached


async def test_a_hit_that_no_longer_verifies_is_removed_and_named_without_its_text(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gateway, verifier = gateway_of(tmp_path)
    first = await ask(gateway)
    async with rechecking(gateway):
        verifier.text = "something else"
        with caplog.at_level(logging.WARNING):
            assert (await ask(gateway)).verification.cached
            await until(lambda: gateway.metric(RESULT % "disagree") == 1)
    [record] = caplog.records
    assert first.verification.group_id in record.getMessage() and "secret" not in caplog.text
    verifier.text = None
    assert not (await ask(gateway)).verification.cached


@pytest.mark.parametrize("trouble", ["error", "timeout", None])
async def test_an_error_of_ours_removes_nothing(tmp_path: Path, trouble: str | None) -> None:
    gateway, verifier = gateway_of(tmp_path)
    await ask(gateway)
    async with rechecking(gateway):
        verifier.text, verifier.gone = trouble, trouble is None
        assert (await ask(gateway)).verification.cached
        await until(lambda: gateway.metric(RESULT % "error") == 1)
    assert (await ask(gateway)).verification.cached


async def test_it_waits_its_turn_and_gives_up_when_the_workers_are_busy(tmp_path: Path) -> None:
    gateway, verifier = gateway_of(tmp_path)
    await ask(gateway)
    verifier.free = False
    for _ in range(40):  # nobody looks at them yet: no request waits, and 32 are kept
        assert (await ask(gateway)).verification.cached
    assert gateway.metric(RESULT % "dropped") == 8 and verifier.calls == 1
    async with rechecking(gateway):
        await until(lambda: gateway.metric(RESULT % "dropped") == 9)
        verifier.free = True
        await until(lambda: gateway.metric(RESULT % "agree") == 1)


async def test_a_share_of_none_checks_nothing(tmp_path: Path) -> None:
    gateway, verifier = gateway_of(tmp_path, NONE)
    async with rechecking(gateway):
        for _ in range(20):
            await ask(gateway)
        await asyncio.sleep(0.15)
    assert verifier.calls == 1


async def test_what_another_computed_is_not_a_hit_to_check(tmp_path: Path) -> None:
    gateway, verifier = gateway_of(tmp_path)
    gateway.backend.lines = [Line("right", delay_s=0.05)]
    async with rechecking(gateway):
        await asyncio.gather(*(ask(gateway) for _ in range(3)))
        await asyncio.sleep(0.15)
    assert verifier.calls == 1


@pytest.mark.parametrize(
    ("message", "result"),
    [
        ({"content": "right, allowed"}, "agree"),
        ({"content": "right", "reasoning_content": "allowed"}, "agree"),
        ({"content": "right", "tool_calls": [{"function": {"name": "f", "arguments": '{"a": "allowed"}'}}]}, "agree"),
        ({"content": "right"}, "disagree"),
        ({"content": "wrong", "reasoning_content": "right, allowed"}, "disagree"),
    ],
)
async def test_a_veto_reads_all_that_the_client_sees_and_the_others_the_text(
    tmp_path: Path, message: dict[str, Any], result: str
) -> None:
    gateway, _ = gateway_of(tmp_path)
    name, stored = answer(message={"role": "assistant"} | message)
    veto = check_spec("allowed", CheckClass.VETO, id="policy", required=True)
    async with rechecking(gateway):
        gateway.service.rechecks.offer(CacheKey(name, stored.key_digest), (veto, RIGHT), stored)
        await until(lambda: gateway.metric(RESULT % result) == 1)
