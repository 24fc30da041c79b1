"""Limits over the application: what is reserved, what is settled, and what the client hears."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.adapters.memory_quota import MemoryQuota
from gateway.adapters.vllm import VllmBackend
from gateway.tenants.quota import NANOS, Amount, Decision, Lease, Limits
from router.domain import CheckResult, CheckSpec
from router.enums import Outcome
from router.errors import BackendTimeout, BackendUnavailable, QuotaUnavailable
from router.settings import PriceSection
from tests.support.asgi import Exchange, application, get, post, request, until
from tests.support.bank_backend import NumericVerifier
from tests.support.fakes import Line, ScriptedBackend, TextVerifier
from tests.support.mock_engine import MODEL, MockEngine
from tests.support.serving import EASY, OPEN, larger_model, serving

CHAT = "/v1/chat/completions"
BUDGET = 1_000_000


def chat(text: str = OPEN, **fields: Any) -> dict[str, Any]:
    return {"model": "champion", "messages": [{"role": "user", "content": text}], "max_tokens": 50, **fields}


def local(**limits: Any) -> dict[str, Any]:
    return {"tenants": {"local": limits}}


class Spy:
    """A quota in memory that keeps what was asked of it; `down` makes it unavailable."""

    def __init__(self) -> None:
        self.quota = MemoryQuota()
        self.reserved: list[Amount] = []
        self.settled: list[Amount] = []
        self.down = False

    async def reserve(self, tenant: str, limits: Limits, amount: Amount, lease_s: float) -> Decision:
        if self.down:
            raise QuotaUnavailable("down")
        self.reserved.append(amount)
        return await self.quota.reserve(tenant, limits, amount, lease_s)

    async def settle(self, lease: Lease, used: Amount) -> None:
        if self.down:
            raise QuotaUnavailable("down")
        self.settled.append(used)
        await self.quota.settle(lease, used)


async def test_without_limits_nothing_is_asked_and_nothing_is_said(tmp_path: Path) -> None:
    spy = Spy()
    answered = await post(application(serving(tmp_path, "a story"), quota=spy), chat())
    assert answered.status == 200 and spy.reserved == []
    assert not [name for name in answered.headers if name.startswith("x-ratelimit")]


async def test_a_rate_is_held_and_said(tmp_path: Path) -> None:
    gateway = serving(tmp_path, "a story")
    app = application(gateway, tables=local(requests_per_minute=6, burst=2))
    for left in ("1", "0"):
        answered = await post(app, chat())
        assert answered.status == 200 and answered.headers["x-ratelimit-remaining-requests"] == left
        assert answered.headers["x-ratelimit-limit-requests"] == "2"
    refused = await post(app, chat())
    assert refused.status == 429 and refused.json["error"]["code"] == "rate_limit_exceeded"
    assert refused.json["error"]["type"] == "requests" and 0 < int(refused.headers["retry-after"]) <= 10
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert refused.headers["x-ratelimit-reset-requests"].endswith("s")
    assert len(gateway.backend.draws) == 2
    assert gateway.metric('thinktwice_denied_requests_total{code="rate_limit_exceeded"}') == 1
    assert gateway.metric('thinktwice_errors_total{code="429"}') == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_all_samples_are_reserved_and_what_was_drawn_is_settled(tmp_path: Path, stream: bool) -> None:
    spy, gateway = Spy(), serving(tmp_path, "\\boxed{4}", "\\boxed{4}")
    app = application(gateway, quota=spy, tables=local(tokens_per_day=BUDGET))
    answered = await post(app, chat(EASY, reasoning_effort="high", stream=stream))
    assert answered.status == 200
    [reserved], [settled] = spy.reserved, spy.settled
    assert 5 * (50 + 256) < reserved.tokens <= 5 * (50 + 256 + 200)  # five samples' completions and prompts
    usage = gateway.log.records[0]
    assert settled.tokens == usage.prompt_tokens + usage.completion_tokens > 0
    assert answered.headers["x-ratelimit-limit-tokens"] == str(BUDGET)
    assert answered.headers["x-ratelimit-remaining-tokens"] == str(BUDGET - reserved.tokens)
    after = await post(app, chat(EASY, reasoning_effort="low"))
    assert int(after.headers["x-ratelimit-remaining-tokens"]) == BUDGET - settled.tokens - spy.reserved[1].tokens


@pytest.mark.parametrize(
    ("fields", "samples"),
    [
        ({}, 1),
        ({"n": 3}, 3),
        ({"reasoning_effort": "high"}, 5),
        ({"reasoning_effort": "high", "verification": {"samples": {"max": 2}}}, 2),
        ({"reasoning_effort": "low", "n": 4}, 4),
    ],
)
async def test_how_many_samples_are_reserved(tmp_path: Path, fields: dict[str, Any], samples: int) -> None:
    spy = Spy()
    app = application(serving(tmp_path, "a story"), quota=spy, tables=local(tokens_per_day=BUDGET))
    assert (await post(app, chat(**fields))).status == 200
    [reserved] = spy.reserved
    assert reserved.tokens % samples == 0 and 300 < reserved.tokens / samples < 400


async def test_the_larger_models_sample_is_reserved_and_settled_at_its_own_price(tmp_path: Path) -> None:
    spy, small, big = Spy(), PriceSection(input=0, output=1), PriceSection(input=0, output=1000)
    second = ScriptedBackend([Line("\\boxed{4}")])
    prices = {"base": small, "big": big}
    gateway = serving(
        tmp_path, "\\boxed{5}", prices=prices, verifier=NumericVerifier(), larger=larger_model(second, big)
    )
    app = application(gateway, quota=spy, tables=local(usd_per_day=1))
    checks = [{"type": "numeric", "reference": 4}]
    answered = await post(app, chat(EASY, verification={"checks": checks}))
    assert answered.status == 200 and answered.json["verification"]["policy"] == "big"
    [reserved], [settled] = spy.reserved, spy.settled
    assert reserved.nanos == 5 * 50 * 1000 + 50 * 1_000_000
    assert settled.nanos == 5 * 9 * 1000 + 9 * 1_000_000
    assert settled.nanos / NANOS == pytest.approx(answered.json["verification"]["cost_usd"])


async def test_with_tools_every_turn_of_every_sample_is_reserved(tmp_path: Path) -> None:
    """A turn's prompt grows by what the tools said, so that it counts as the whole context."""
    spy = Spy()
    tables = local(tokens_per_day=BUDGET) | {"profiles": {"tooled": {"tools": ["calculator"], "max_turns": 3}}}
    app = application(serving(tmp_path, "a story"), quota=spy, tables=tables)
    assert (await post(app, chat(verification={"profile": "tooled"}))).status == 200
    assert [reserved.tokens for reserved in spy.reserved] == [3 * (2048 + 50)]


async def test_without_max_tokens_the_context_is_reserved(tmp_path: Path) -> None:
    spy = Spy()
    app = application(serving(tmp_path, "a story"), quota=spy, tables=local(tokens_per_day=BUDGET))
    body = chat()
    del body["max_tokens"]
    await post(app, body)
    await post(app, chat("long " * 10_000))
    assert 2048 < spy.reserved[0].tokens < 2048 + 400 and spy.reserved[1].tokens == 2048 + 50


async def test_parallel_requests_do_not_overshoot(tmp_path: Path) -> None:
    """64 at once against a budget for ten."""
    spy, gateway = Spy(), serving(tmp_path, Line("a story", delay_s=0.2))
    app = application(gateway, quota=spy, tables=local(tokens_per_day=BUDGET))
    await post(app, chat())
    each = spy.reserved[0].tokens
    spy = Spy()
    app = application(gateway, quota=spy, tables=local(tokens_per_day=each * 10 + 1))
    answered = await asyncio.gather(*(post(app, chat()) for _ in range(64)))
    assert sorted(exchange.status for exchange in answered) == [200] * 10 + [429] * 54
    refused = next(exchange for exchange in answered if exchange.status == 429)
    assert refused.json["error"]["code"] == refused.json["error"]["type"] == "insufficient_quota"
    assert "max_tokens" in refused.json["error"]["message"] and refused.headers["x-should-retry"] == "false"
    assert 0 < int(refused.headers["retry-after"]) <= 86400
    assert len(gateway.backend.draws) == 1 + 10 and len(spy.settled) == 10


class Content(TextVerifier):
    """Every check passes."""

    async def verify(self, checks: Sequence[CheckSpec], text: str) -> tuple[CheckResult, ...]:
        return tuple(CheckResult(c.id, c.type, c.klass, Outcome.PASS, 1.0, 1.0, c.version) for c in checks)


async def test_a_verified_cache_hit_costs_nothing(tmp_path: Path) -> None:
    spy, gateway = Spy(), serving(tmp_path, "\\boxed{4}", verifier=Content())
    app = application(gateway, quota=spy, tables=local(tokens_per_day=BUDGET))
    checks = {"checks": [{"type": "numeric", "reference": 4}]}
    first, second = [await post(app, chat(EASY, verification=checks)) for _ in range(2)]
    assert (first.json["verification"]["cached"], second.json["verification"]["cached"]) == (False, True)
    assert spy.settled[0].tokens > 0 and spy.settled[1] == Amount(0, 0)


async def test_who_finishes_anothers_computation_pays_for_it(tmp_path: Path) -> None:
    """Two equal requests share one computation; the one that started it leaves."""
    spy, gateway = Spy(), serving(tmp_path, Line("\\boxed{4}", delay_s=0.5), verifier=Content())
    app = application(gateway, quota=spy, tables=local(tokens_per_day=BUDGET))
    body = chat(EASY, reasoning_effort="high", verification={"checks": [{"type": "numeric", "reference": 4}]})
    exchange = Exchange()
    leaving = asyncio.create_task(exchange.run(app, request("POST", CHAT), json.dumps(body).encode()))
    await until(lambda: bool(gateway.backend.draws))
    staying = asyncio.create_task(post(app, body))
    await until(lambda: len(spy.reserved) == 2)
    await asyncio.sleep(0.1)
    exchange.leave.set()
    async with asyncio.timeout(30):
        await leaving
    answered = await staying
    assert answered.status == 200 and len(gateway.log.records) == 1 and len(spy.settled) == 2
    assert spy.settled[1].tokens == answered.json["usage"]["total_tokens"] > 0


async def test_dollars_are_counted_by_the_price_table(tmp_path: Path) -> None:
    spy = Spy()
    gateway = serving(tmp_path, "story", prices={"base": PriceSection(input=1.0, output=10.0)})
    tables = local(usd_per_day=0.01) | {"prices": {"base": {"input": 1, "output": 10}}}
    app = application(gateway, quota=spy, tables=tables)
    answered = await post(app, chat())
    assert answered.status == 200
    usage = answered.json["usage"]
    expected = (usage["prompt_tokens"] * 1 + usage["completion_tokens"] * 10) * NANOS // 1_000_000
    assert spy.settled[0].nanos == expected == round(answered.json["verification"]["cost_usd"] * NANOS)
    refused = await post(app, chat(n=30))
    assert refused.status == 429 and refused.json["error"]["code"] == "insufficient_quota"


async def test_a_budget_in_dollars_needs_the_models_price(tmp_path: Path) -> None:
    tables = local(usd_per_day=1) | {"prices": {"other": {"input": 1, "output": 10}}}
    refused = await post(application(serving(tmp_path, "story"), tables=tables), chat())
    assert refused.status == 503 and "[prices.MODEL]" in refused.json["error"]["message"]


# However a request ends, it is settled


@pytest.mark.parametrize("effort", ["low", "high"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_pays_for_what_was_drawn(tmp_path: Path, effort: str, stream: bool) -> None:
    spy, gateway = Spy(), serving(tmp_path, Line("half and never", delay_s=30.0))
    app = application(gateway, quota=spy, tables=local(tokens_per_day=BUDGET, max_concurrency=1))
    exchange = Exchange()
    body = json.dumps(chat(EASY, reasoning_effort=effort, stream=stream)).encode()
    serving_it = asyncio.create_task(exchange.run(app, request("POST", CHAT), body))
    await until(lambda: bool(gateway.backend.draws))
    await asyncio.sleep(0.05)
    exchange.leave.set()
    async with asyncio.timeout(30):
        await serving_it
    [settled], [reserved] = spy.settled, spy.reserved
    if effort == "low" and not stream:  # nothing was seen of it: it counts as the most it can be
        assert settled == reserved
    else:
        assert 3 + 7 <= settled.tokens < 100
    gateway.backend.lines = [Line("4")]
    assert (await post(app, chat())).status == 200  # the one place is free again


@pytest.mark.parametrize("effort", ["low", "high"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_refused_call_costs_nothing(tmp_path: Path, effort: str, stream: bool) -> None:
    class Down:
        async def complete(self, draw: object) -> Any:
            raise BackendUnavailable("down")

        async def stream(self, draw: object) -> Any:
            for failure in [BackendUnavailable("down")]:
                raise failure
            yield {}

    spy, gateway = Spy(), serving(tmp_path, "x", backend=Down())
    app = application(gateway, quota=spy, tables=local(tokens_per_day=BUDGET))
    assert (await post(app, chat(EASY, reasoning_effort=effort, stream=stream))).status == 503
    assert spy.settled == [Amount(0, 0)]


async def test_a_call_that_timed_out_counts_as_the_most_it_can_be(tmp_path: Path) -> None:
    spy, gateway = Spy(), serving(tmp_path, Line("x", error=BackendTimeout("late")))
    app = application(gateway, quota=spy, tables=local(tokens_per_day=BUDGET))
    assert (await post(app, chat())).status == 504
    assert spy.settled == spy.reserved


async def test_places_are_given_back(tmp_path: Path) -> None:
    gateway = serving(tmp_path, Line("a story", delay_s=0.2))
    app = application(gateway, tables=local(max_concurrency=2))
    answered = await asyncio.gather(*(post(app, chat(stream=i % 2 == 0)) for i in range(5)))
    assert sorted(exchange.status for exchange in answered) == [200, 200, 429, 429, 429]
    refused = next(exchange for exchange in answered if exchange.status == 429)
    assert refused.json["error"]["code"] == "rate_limit_exceeded" and refused.headers["retry-after"] == "1"
    assert (await post(app, chat())).status == 200


# The store is down


async def test_without_the_store_a_budget_denies(tmp_path: Path) -> None:
    spy, gateway = Spy(), serving(tmp_path, "a story")
    app = application(gateway, quota=spy, tables=local(tokens_per_day=BUDGET, requests_per_minute=600))
    spy.down = True
    refused = await post(app, chat())
    assert refused.status == 503 and refused.json["error"]["code"] == "quota_unavailable"
    assert int(refused.headers["retry-after"]) > 0 and gateway.backend.draws == []


async def test_without_the_store_a_rate_falls_to_a_strict_one(tmp_path: Path) -> None:
    spy = Spy()
    app = application(serving(tmp_path, "a story"), quota=spy, tables=local(requests_per_minute=60, burst=50))
    spy.down = True
    statuses = [(await post(app, chat())).status for _ in range(3)]
    assert statuses == [200, 429, 429]
    spy.down = False
    assert (await post(app, chat())).status == 200


async def test_what_could_not_be_settled_is_settled_later(tmp_path: Path) -> None:
    spy, gateway = Spy(), serving(tmp_path, Line("a story", delay_s=0.1))
    app = application(gateway, quota=spy, tables=local(tokens_per_day=BUDGET))
    asking = asyncio.create_task(post(app, chat()))
    await until(lambda: bool(gateway.backend.draws))
    spy.down = True
    assert (await asking).status == 200 and spy.settled == []
    watcher = app._app.state.runtime.watcher  # type: ignore[attr-defined]
    await watcher.look()
    assert spy.settled == []
    spy.down = False
    await watcher.look()
    await watcher.look()
    assert len(spy.settled) == 1


# The gate


async def test_requests_wait_for_room_and_probes_do_not(tmp_path: Path) -> None:
    gateway = serving(tmp_path, Line("a story", delay_s=0.2))
    app = application(gateway, max_inflight=1, max_queued=1)
    asking = [asyncio.create_task(post(app, chat(stream=True)))]
    await until(lambda: bool(gateway.backend.draws))
    asking += [asyncio.create_task(post(app, chat())) for _ in range(2)]
    await until(lambda: gateway.metric("thinktwice_queued_requests") == 1)
    assert (await get(app, "/healthz")).status == 200 and (await get(app, "/metrics")).status == 200
    assert (await get(app, "/v1/models")).status == 200 and len(gateway.backend.draws) == 1
    answered = await asyncio.gather(*asking)
    assert [exchange.status for exchange in answered] == [200, 200, 503]
    assert answered[2].json["error"]["code"] == "overloaded" and answered[2].headers["retry-after"] == "1"
    assert gateway.metric("thinktwice_queued_requests") == 0


async def test_a_client_that_leaves_the_queue(tmp_path: Path) -> None:
    spy, gateway = Spy(), serving(tmp_path, Line("a story", delay_s=0.3))
    app = application(gateway, quota=spy, tables=local(tokens_per_day=BUDGET), max_inflight=1)
    first = asyncio.create_task(post(app, chat()))
    await until(lambda: bool(gateway.backend.draws))
    exchange = Exchange()
    waiting = asyncio.create_task(exchange.run(app, request("POST", CHAT), json.dumps(chat()).encode()))
    await until(lambda: gateway.metric("thinktwice_queued_requests") == 1)
    exchange.leave.set()
    async with asyncio.timeout(30):
        await waiting
    assert exchange.status == 499 and gateway.metric("thinktwice_queued_requests") == 0
    assert spy.settled == [Amount(0, 0)]  # what it had reserved is free again
    assert (await first).status == 200 and len(gateway.backend.draws) == 1


async def test_waiting_ends_with_the_deadline(tmp_path: Path) -> None:
    gateway = serving(tmp_path, Line("a story", delay_s=0.5), deadline_s=0.2)
    app = application(gateway, max_inflight=1)
    first = asyncio.create_task(post(app, chat()))
    await until(lambda: bool(gateway.backend.draws))
    assert (await post(app, chat())).json["error"]["code"] == "overloaded"
    await first


# Routes that are passed on


@pytest.mark.parametrize("stream", [False, True])
async def test_completions_and_embeddings_are_counted(tmp_path: Path, stream: bool) -> None:
    spy, gateway = Spy(), serving(tmp_path, "x")
    gateway.deps.policies._base_model = MODEL
    with MockEngine() as mock:
        async with VllmBackend(mock.url) as engine:
            app = application(gateway, engine=engine, quota=spy, tables=local(tokens_per_day=BUDGET))
            plain = {"model": MODEL, "prompt": ["one", "two"], "max_tokens": 40, "n": 2, "stream": stream}
            answered = await post(app, plain, "/v1/completions")
            assert answered.status == 200 and "x-ratelimit-remaining-tokens" in answered.headers
            if stream:
                assert all(event["choices"] for event in answered.events)
            embedded = await post(app, {"model": MODEL, "input": ["a", "b"]}, "/v1/embeddings")
            assert embedded.status == 200
            too_much = await post(app, plain | {"n": 100_000}, "/v1/completions")
            assert too_much.status == 429
    assert 4 * 40 + 256 < spy.reserved[0].tokens < 4 * 40 + 300 and 256 < spy.reserved[1].tokens < 300
    assert 0 < spy.settled[0].tokens < spy.reserved[0].tokens and spy.settled[1].tokens == 1
