"""Shadow traffic: beside the requests, logged and counted apart, never served or cached."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from gateway.answer import Answer
from gateway.call import ChatCall
from gateway.shadowing import Shadowing
from router.enums import OnFailure, Purpose
from router.registry import PolicyRegistry
from router.settings import ShadowSection
from tests.support.builders import check_spec
from tests.support.serving import EASY, Serving, call, serving

RIGHT = check_spec("right")


def registered(state_dir: Path) -> str:
    folder = state_dir / "adapter"
    folder.mkdir(parents=True)
    (folder / "adapter.safetensors").write_text("weights")
    return PolicyRegistry(state_dir).register(folder, {"base_model": "base"}, "test")


async def asked(gateway: Serving, policy: str, *calls: ChatCall, share: float = 1.0) -> list[Answer]:
    """The answers to the calls; what they leave to the shadow is then done."""
    shadowing = Shadowing(gateway.service, gateway.deps, ShadowSection(policy=policy, share=share))
    gateway.service.shadow = shadowing.offer
    answers = [await gateway.service.answer(await gateway.service.prepare(each)) for each in calls]
    work = asyncio.create_task(shadowing.run())
    await asyncio.sleep(0.05)
    work.cancel()
    return answers


async def test_the_client_gets_the_champions_answer_and_the_log_both(tmp_path: Path) -> None:
    policy = registered(tmp_path)
    gateway = serving(tmp_path, "right", *["wrong"] * 5)
    [answer] = await asked(gateway, policy, call(EASY, RIGHT))
    assert answer.message["content"] == "right" and answer.verification.policy == "base"
    served, shadowed = gateway.log.records
    assert (served.purpose, served.policy, served.replays) == (Purpose.PROD, "base", None)
    assert (shadowed.purpose, shadowed.policy, shadowed.replays) == (Purpose.SHADOW, policy, served.group_id)
    assert (shadowed.status, served.status) == ("failed", "verified")
    counted = 'thinktwice_answers_total{{purpose="{}",route="{}",status="{}"}}'
    assert gateway.metric(counted.format("prod", served.route, "verified")) == 1.0
    assert gateway.metric(counted.format("shadow", shadowed.route, "failed")) == 1.0


async def test_a_verified_answer_of_the_shadow_is_not_cached(tmp_path: Path) -> None:
    policy = registered(tmp_path)
    gateway = serving(tmp_path, "wrong", "right", "right")
    once = {"min_samples": 1, "max_samples": 1}
    await asked(gateway, policy, call(EASY, RIGHT, **once))
    [again] = await asked(gateway, policy, call(EASY, RIGHT, **once), share=1e-9)
    assert not again.verification.cached and again.verification.policy == "base"


@pytest.mark.parametrize(
    "changes", [{"purpose": Purpose.EVAL}, {"model": "PINNED"}, {"n": 2}], ids=["evaluation", "pinned", "choices"]
)
async def test_only_ordinary_traffic_of_the_champion(tmp_path: Path, changes: dict[str, object]) -> None:
    policy = registered(tmp_path)
    gateway = serving(tmp_path, "right", "right")
    given = {name: policy if value == "PINNED" else value for name, value in changes.items()}
    await asked(gateway, policy, call("Tell me a story.", **given))
    assert len(gateway.log.records) == 1


async def test_a_share_of_none_of_these_prompts(tmp_path: Path) -> None:
    policy = registered(tmp_path)
    gateway = serving(tmp_path, "right")
    await asked(gateway, policy, call(EASY, RIGHT), share=1e-9)
    assert len(gateway.log.records) == 1


async def test_what_the_shadow_cannot_answer_is_said_once_and_harms_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = serving(tmp_path, "right", "right")
    with caplog.at_level(logging.WARNING):
        answers = await asked(
            gateway, "policy-9-00000000", call(EASY, RIGHT, no_store=True), call(EASY, RIGHT, no_store=True)
        )
    assert [answer.message["content"] for answer in answers] == ["right", "right"]
    assert len(gateway.log.records) == 2
    [said] = [record.getMessage() for record in caplog.records]
    assert said.startswith(
        "policy-9-00000000 cannot answer beside the champion: the model 'policy-9-00000000' does not"
    )


async def test_what_the_shadow_may_not_show_ends_quietly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    policy = registered(tmp_path)
    gateway = serving(tmp_path, "right", *["wrong"] * 5)
    await asked(gateway, policy, call(EASY, RIGHT, on_failure=OnFailure.ERROR))
    assert [record.purpose for record in gateway.log.records] == [Purpose.PROD, Purpose.SHADOW]
    assert caplog.records == []
