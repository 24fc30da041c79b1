"""Equal requests at the same time: one computation, an honest account of it, and never two tenants together."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from gateway.answer import Answer
from gateway.call import ChatCall, Tenant
from router.domain import Tokens
from router.enums import OnFailure, Route, Status
from router.errors import BackendRejected, BackendTimeout, BackendUnavailable, VerificationFailed
from router.settings import PriceSection, RedisSection
from tests.support.asgi import until
from tests.support.builders import check_spec
from tests.support.fakes import Line
from tests.support.serving import EASY, Serving, call, serving

RIGHT = check_spec("right")
SLOW = Line("right", delay_s=0.1)
PRICES = {"base": PriceSection(input=1.0, output=2.0)}


async def ask(gateway: Serving, chat: ChatCall) -> Answer:
    return await gateway.service.answer(await gateway.service.prepare(chat))


def asking(gateway: Serving, count: int, **fields: object) -> list[asyncio.Task[Answer]]:
    return [
        asyncio.create_task(ask(gateway, call(EASY, RIGHT, request_id=f"req-{number}", **fields)))
        for number in range(count)
    ]


async def test_64_at_once_cost_one_computation_and_one_of_them_pays(tmp_path: Path) -> None:
    gateway = serving(tmp_path, SLOW, prices=PRICES)
    answers = await asyncio.gather(*asking(gateway, 64))
    assert len(gateway.backend.draws) == len(gateway.log.records) == 1
    [first], others = [a for a in answers if not a.verification.cached], [a for a in answers if a.verification.cached]
    assert len(others) == 63 and first.tokens.completion > 0 and first.verification.cost_usd
    for answer in others:
        assert answer.verification.status is Status.VERIFIED and answer.verification.route is Route.CACHE
        assert answer.tokens == Tokens() and answer.verification.cost_usd == 0.0
        assert answer.verification.group_id == first.verification.group_id and answer.message == first.message
    assert gateway.metric('thinktwice_coalesced_requests_total{leader="here"}') == 63
    served = 'thinktwice_answers_total{purpose="prod",route="%s",status="verified"}'
    assert [gateway.metric(served % route) for route in ("single", "cache")] == [1, 63]


async def test_two_tenants_never_share(tmp_path: Path) -> None:
    gateway = serving(tmp_path, SLOW)
    tenants = [Tenant(name, train_consent=False) for name in ("a", "b")]
    answers = await asyncio.gather(*(task for tenant in tenants for task in asking(gateway, 8, tenant=tenant)))
    assert len(gateway.backend.draws) == 2
    assert sorted(record.tenant for record in gateway.log.records) == ["a", "b"]
    groups = Counter(answer.verification.group_id for answer in answers)
    assert sorted(groups.values()) == [8, 8] and len({a.verification.group_id for a in answers[:8]}) == 1


async def test_an_answer_that_is_not_verified_is_one_requests_alone(tmp_path: Path) -> None:
    gateway = serving(tmp_path, Line("wrong", delay_s=0.05))
    answers = await asyncio.gather(*asking(gateway, 4, max_samples=1, samples_given=True))
    assert {answer.verification.status for answer in answers} == {Status.FAILED}
    assert len({answer.verification.group_id for answer in answers}) == len(gateway.log.records) == 4
    assert not any(answer.verification.cached for answer in answers)
    assert gateway.metric('thinktwice_coalesced_requests_total{leader="here"}') == 0


async def test_on_failure_is_each_requests_own(tmp_path: Path) -> None:
    gateway = serving(tmp_path, Line("wrong", delay_s=0.05), Line("right"))
    bounds = {"max_samples": 1, "samples_given": True}
    leader = asyncio.create_task(ask(gateway, call(EASY, RIGHT, on_failure=OnFailure.ERROR, **bounds)))
    await until(lambda: bool(gateway.backend.draws))
    follower = asyncio.create_task(ask(gateway, call(EASY, RIGHT, **bounds)))
    with pytest.raises(VerificationFailed):
        await leader
    assert (await follower).verification.status is Status.VERIFIED


async def test_a_leader_whose_client_leaves_leaves_the_work_to_the_others(tmp_path: Path) -> None:
    gateway = serving(tmp_path, SLOW)
    leader, *others = asking(gateway, 3)
    await until(lambda: bool(gateway.backend.draws))
    leader.cancel()
    first, second = await asyncio.gather(*others)
    assert len(gateway.backend.draws) == len(gateway.log.records) == 1
    assert first.tokens.completion > 0 and not first.verification.cached  # it pays: nobody else will
    assert second.verification.cached and second.tokens == Tokens()


async def test_when_all_have_left_the_work_ends(tmp_path: Path) -> None:
    gateway = serving(tmp_path, Line("right", delay_s=60))
    tasks = asking(gateway, 3)
    await until(lambda: bool(gateway.backend.draws))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert gateway.log.records == []
    gateway.backend.lines = [Line("right")]
    assert not (await ask(gateway, call(EASY, RIGHT))).verification.cached  # and its turn was given back


async def test_an_engine_that_fails_fails_those_who_waited_and_nobody_later(tmp_path: Path) -> None:
    down = Line("", delay_s=0.05, error=BackendUnavailable("down"))
    gateway = serving(tmp_path, down, Line("right"))
    outcomes = await asyncio.gather(*asking(gateway, 3), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["down"] * 3 and len(gateway.backend.draws) == 1
    assert (await ask(gateway, call(EASY, RIGHT))).verification.status is Status.VERIFIED


async def test_an_engines_refusal_is_shared_as_it_is(tmp_path: Path) -> None:
    gateway = serving(tmp_path, Line("", delay_s=0.05, error=BackendRejected("too long", 400, {"error": {}})))
    outcomes = await asyncio.gather(*asking(gateway, 3), return_exceptions=True)
    assert all(isinstance(outcome, BackendRejected) for outcome in outcomes) and len(gateway.backend.draws) == 1


async def test_two_gateways_with_one_store_compute_once(tmp_path: Path) -> None:
    first = serving(tmp_path, Line("right", delay_s=0.3))
    second = serving(tmp_path, Line("right", delay_s=0.3), store=first.store)
    answers = await asyncio.gather(*asking(first, 16), *asking(second, 16))
    assert len(first.backend.draws) + len(second.backend.draws) == 1
    assert sum(not answer.verification.cached for answer in answers) == 1
    assert first.metric('thinktwice_coalesced_requests_total{leader="here"}') == 15
    assert second.metric('thinktwice_coalesced_requests_total{leader="elsewhere"}') == 16


async def test_a_gateway_that_died_in_its_turn_holds_the_others_up_for_the_lease_only(tmp_path: Path) -> None:
    caching = RedisSection(lock_s=0.2)
    first = serving(tmp_path, Line("right", delay_s=60), caching=caching)
    second = serving(tmp_path, "right", store=first.store, caching=caching)
    [stuck] = asking(first, 1)
    await until(lambda: bool(first.backend.draws))
    async with asyncio.timeout(5):
        assert (await ask(second, call(EASY, RIGHT))).verification.status is Status.VERIFIED
    stuck.cancel()


async def test_anothers_deadline_is_nobody_elses(tmp_path: Path) -> None:
    gateway = serving(tmp_path, Line("", delay_s=0.05, error=BackendTimeout("1 s are over")), Line("right"))
    outcomes = await asyncio.gather(*asking(gateway, 2), return_exceptions=True)
    assert isinstance(outcomes[0], BackendTimeout)
    assert isinstance(outcomes[1], Answer) and outcomes[1].verification.status is Status.VERIFIED


async def test_who_waits_for_another_keeps_time_for_a_try_of_its_own(tmp_path: Path) -> None:
    gateway = serving(tmp_path, Line("right", delay_s=60), Line("right"), deadline_s=0.4)
    leader, follower = asking(gateway, 2)
    assert (await follower).verification.status is Status.VERIFIED
    leader.cancel()
    assert len(gateway.log.records) == 1
