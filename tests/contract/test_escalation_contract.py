"""The larger model's last sample, drawn by a real engine: the embedded one and, by `make test-vllm`, vLLM."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.adapters.backend_pool import BackendPool
from gateway.adapters.vllm import VllmBackend
from gateway.larger import LargerModel, Unobserved
from router.domain import Sampling
from router.enums import Stopped
from router.settings import EscalationSection, PriceSection
from tests.support.builders import check_spec, prompt
from tests.support.engines import MODEL, RunningEngine
from tests.support.serving import EASY, call, serving

FREE = PriceSection(input=0, output=0)
PRICE = PriceSection(input=10.0, output=20.0)


@pytest.fixture
async def larger(engine: RunningEngine) -> AsyncIterator[LargerModel]:
    """The engine's model, once it can be asked."""
    section = EscalationSection(url=engine.url, model=MODEL)
    async with BackendPool([VllmBackend(engine.url)], Unobserved()) as pool:
        larger = LargerModel(section, pool, PRICE)
        async with asyncio.timeout(60):
            while not await larger.look():
                await asyncio.sleep(0.1)
        yield larger


async def test_a_last_sample_is_drawn_judged_billed_and_logged(tmp_path: Path, larger: LargerModel) -> None:
    gateway = serving(tmp_path, "wrong", larger=larger, deadline_s=120.0, prices={"base": FREE})
    asked = prompt(EASY, Sampling(temperature=0.0, max_tokens=16))
    prepared = await gateway.service.prepare(call(EASY, check_spec(" "), prompt=asked))
    answer = await gateway.service.answer(prepared)
    found = answer.verification
    assert (found.policy, found.escalated, found.samples, found.stopped) == (MODEL, True, 6, Stopped.DECISIVE)
    [record] = gateway.log.records
    last = record.samples[-1]
    assert last.message["content"] == answer.message["content"] and last.ineligible_reason == "other_policy"
    assert answer.larger.prompt == len(last.prompt_token_ids or ())
    assert answer.larger.completion == len(last.completion_token_ids or ()) == len(last.behavior_logprobs or ())
    cost = answer.larger.prompt * PRICE.input + answer.larger.completion * PRICE.output
    assert found.cost_usd is not None and abs(found.cost_usd - cost / 1e6) < 1e-9
