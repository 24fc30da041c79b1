from pathlib import Path
from typing import Any

import pytest

from gateway.answer import Answer
from gateway.call import ChatCall, Tenant
from router.domain import Sampling, Tokens
from router.enums import Effort, Purpose, Route, Status
from router.errors import (
    CacheUnavailable,
    ModelNotFound,
)
from router.records import GroupRecord
from router.registry import PolicyRegistry
from router.settings import PriceSection
from tests.support.builders import check_spec, prompt
from tests.support.serving import EASY, OPEN, Serving, call, serving

RIGHT = check_spec("right")
PRICE = PriceSection(input=1.0, output=2.0)


async def ask(serving: Serving, chat: ChatCall) -> Answer:
    return await serving.service.answer(await serving.service.prepare(chat))


def only(serving: Serving) -> GroupRecord:
    [record] = serving.log.records
    return record


def registered(registry: PolicyRegistry, tmp_path: Path) -> str:
    """A policy's name."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter.safetensors").write_text("weights")
    return registry.register(folder, {})


async def test_a_verified_answer_is_served_again_for_nothing(tmp_path: Path) -> None:
    gateway = serving(tmp_path, "wrong", "right", prices={"base": PRICE})
    first = await ask(gateway, call(EASY, RIGHT))
    again = await ask(gateway, call(EASY, RIGHT, request_id="req-2"))
    assert again.message == first.message
    assert again.tokens == Tokens() and again.verification.cost_usd == 0.0
    assert again.verification.cached and again.verification.route is Route.CACHE
    assert again.verification.group_id == first.verification.group_id
    assert (again.verification.samples, again.verification.checks) == (
        first.verification.samples,
        first.verification.checks,
    )
    assert len(gateway.log.records) == 1
    assert gateway.deps.scorecard.report()["cache"]["hit_rate"]["value"] == 0.5


@pytest.mark.parametrize("text", ["wrong", "error"])
async def test_only_verified_answers_are_stored(tmp_path: Path, text: str) -> None:
    gateway = serving(tmp_path, text)
    for _ in range(2):
        answer = await ask(gateway, call(EASY, RIGHT))
        assert not answer.verification.cached
    assert len(gateway.log.records) == 2


async def test_agreement_is_not_stored(tmp_path: Path) -> None:
    gateway = serving(tmp_path, "\\boxed{4}")
    for _ in range(2):
        assert not (await ask(gateway, call(EASY, effort=Effort.HIGH))).verification.cached


@pytest.mark.parametrize("bypass", [{"no_store": True}, {"logprobs": True}, {"purpose": Purpose.EVAL}])
async def test_what_bypasses_the_cache_neither_reads_nor_writes_it(tmp_path: Path, bypass: dict[str, Any]) -> None:
    gateway = serving(tmp_path, "right")
    assert not (await ask(gateway, call(EASY, RIGHT, **bypass))).verification.cached
    assert not (await ask(gateway, call(EASY, RIGHT))).verification.cached
    assert not (await ask(gateway, call(EASY, RIGHT, **bypass))).verification.cached
    assert (await ask(gateway, call(EASY, RIGHT))).verification.cached


@pytest.mark.parametrize(
    "other",
    [
        call("What is 3 + 3?", RIGHT),
        call(EASY, check_spec("righ")),
        call(EASY, RIGHT, tenant=Tenant("other", train_consent=False)),
        call(EASY, RIGHT, prompt=prompt(EASY, Sampling(temperature=0.5))),
        call(EASY, RIGHT, prompt=prompt(EASY, stop=["x"])),
        call(EASY, RIGHT, max_samples=3, samples_given=True),
    ],
)
async def test_another_request_is_a_miss(tmp_path: Path, other: ChatCall) -> None:
    gateway = serving(tmp_path, "right")
    await ask(gateway, call(EASY, RIGHT))
    assert not (await ask(gateway, other)).verification.cached


async def test_a_promotion_empties_the_cache(tmp_path: Path) -> None:
    gateway = serving(tmp_path, "right")
    await ask(gateway, call(EASY, RIGHT))
    registry = PolicyRegistry(tmp_path)
    registry.promote(registered(registry, tmp_path), "better", "test")
    registry.rollback("it was not", "test")
    await gateway.deps.policies.follow()
    answer = await ask(gateway, call(EASY, RIGHT))
    assert answer.verification.policy == "base" and not answer.verification.cached


class BrokenStore:
    """Serves nothing."""

    async def get(self, name: str) -> bytes | None:
        raise CacheUnavailable("down")

    async def put(self, name: str, value: bytes, ttl_s: float) -> None:
        raise CacheUnavailable("down")

    async def add(self, name: str, value: bytes, ttl_s: float) -> bool:
        raise CacheUnavailable("down")

    async def swap(self, name: str, old: bytes, new: bytes | None, ttl_s: float = 0.0) -> bool:
        raise CacheUnavailable("down")

    async def remove(self, name: str) -> None:
        raise CacheUnavailable("down")

    async def alive(self) -> bool:
        return False


async def test_a_cache_that_fails_is_a_miss(tmp_path: Path) -> None:
    gateway = serving(tmp_path, "right", store=BrokenStore())
    for _ in range(2):
        answer = await ask(gateway, call(EASY, RIGHT))
        assert answer.verification.status is Status.VERIFIED and not answer.verification.cached
    assert gateway.metric('thinktwice_cache_lookups_total{result="error"}') == 4


async def test_an_evaluation_is_logged_as_one_and_stays_out_of_the_scorecard(tmp_path: Path) -> None:
    gateway = serving(tmp_path, "right", audit_share=1.0)
    await ask(gateway, call(EASY, RIGHT, purpose=Purpose.EVAL))
    record = only(gateway)
    assert record.purpose is Purpose.EVAL and not record.audit
    report = gateway.deps.scorecard.report()
    assert report["requests"]["answered"] == 0 and report["cache"]["hit_rate"]["n"] == 0
    assert gateway.metric('thinktwice_answers_total{purpose="eval",route="single",status="verified"}') == 1


async def test_each_tenant_has_a_cache_salt_of_its_own(tmp_path: Path) -> None:
    gateway = serving(tmp_path, "right")
    for name in ("a", "b", "a"):
        await ask(gateway, call(OPEN, tenant=Tenant(name, train_consent=False)))
    salts = [draw.cache_salt for draw in gateway.backend.draws]
    assert None not in salts and salts[0] == salts[2] != salts[1]
    assert [record.tenant for record in gateway.log.records] == ["a", "b", "a"]
    assert not any(record.train_consent for record in gateway.log.records)


@pytest.mark.parametrize(("share", "heldout"), [(0.0, False), (0.999999, True)])
async def test_the_held_out_share_is_marked(tmp_path: Path, share: float, heldout: bool) -> None:
    gateway = serving(tmp_path, "a story", heldout_share=share)
    await ask(gateway, call(OPEN))
    assert only(gateway).heldout is heldout


async def test_the_model_a_name_means(tmp_path: Path) -> None:
    registry = PolicyRegistry(tmp_path)
    name = registered(registry, tmp_path)
    gateway = serving(tmp_path, "a story")
    for asked, expected in (("base", "base"), ("champion", "base"), (name, name)):
        answer = await ask(gateway, call(OPEN, model=asked))
        assert answer.verification.policy == expected == gateway.backend.draws[-1].model
    registry.promote(name, "better", "test")
    await gateway.deps.policies.follow()
    assert (await ask(gateway, call(OPEN))).verification.policy == name
    assert gateway.log.records[-1].policy == name and gateway.log.records[-1].base_model == "base"
    with pytest.raises(ModelNotFound):
        await gateway.service.prepare(call(OPEN, model="gpt-9"))
