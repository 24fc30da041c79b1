from pathlib import Path
from typing import Any

import pytest

from gateway.call import ChatCall, Replayed, Tenant
from router.domain import Sampling
from router.enums import Effort, OnFailure, Purpose, Reason, Route, Status, Stopped
from router.record_codec import decode_group, encode
from router.records import GroupRecord
from tests.support.builders import check_spec, prompt
from tests.support.fakes import ENGINE, Line
from tests.support.serving import EASY, OPEN, call, serving

RIGHT = check_spec("right", weight=2.0)


async def record_of(tmp_path: Path, chat: ChatCall, *lines: Line | str, **changes: Any) -> GroupRecord:
    gateway = serving(tmp_path, *lines, **changes)
    await gateway.service.answer(await gateway.service.prepare(chat))
    [record] = gateway.log.records
    assert decode_group(encode(record)) == record
    return record


async def test_everything_that_was_asked(tmp_path: Path) -> None:
    chat = call(
        EASY,
        RIGHT,
        prompt=prompt(EASY, Sampling(temperature=1.0, top_p=1.0, top_k=-1, min_p=0.0, max_tokens=9), stop=["x"]),
        on_failure=OnFailure.REFUSE,
        profile="gate@2",
        min_samples=1,
        max_samples=4,
        samples_given=True,
        purpose=Purpose.EVAL,
        tenant=Tenant("acme", train_consent=False),
    )
    record = await record_of(tmp_path, chat, "right")
    assert record.messages == ({"role": "user", "content": EASY},) and record.options == {"stop": ["x"]}
    assert (record.tenant, record.train_consent, record.purpose) == ("acme", False, Purpose.EVAL)
    assert (record.request_id, record.profile, record.planned_samples) == ("req-1", "gate@2", 4)
    assert record.verification["samples"] == {"min": 1, "max": 4}
    assert (record.verification["on_failure"], record.verification["profile"]) == ("refuse", "gate@2")
    [check] = record.verification["checks"]
    assert (check["type"], check["klass"], check["params"]) == ("exact", "decisive", {"want": "right"})


async def test_a_replay_belongs_to_the_tenant_of_the_group(tmp_path: Path) -> None:
    caller = Tenant("trainer", train_consent=False)
    chat = call(EASY, RIGHT, purpose=Purpose.REPLAY, replayed=Replayed("g1", "acme"), tenant=caller)
    record = await record_of(tmp_path, chat, "right")
    assert (record.tenant, record.train_consent, record.purpose, record.replays) == ("acme", True, "replay", "g1")


async def test_the_behaviour_policy(tmp_path: Path) -> None:
    record = await record_of(tmp_path, call(OPEN), "a story")
    assert (record.base_model, record.policy) == ("base", "base")
    assert (record.engine, record.engine_version, record.logprobs_mode) == ("fake", "1", "processed_logprobs")
    assert record.template_fingerprint == ENGINE.template_fingerprint
    assert record.prompt_token_ids == (1, 2, 3)
    [sample] = record.samples
    assert sample.completion_token_ids == tuple(map(ord, "a story"))
    assert sample.behavior_logprobs == (-0.5,) * 7 and sample.rl_eligible


async def test_the_result(tmp_path: Path) -> None:
    record = await record_of(tmp_path, call(EASY, RIGHT), "wrong", "right", "never")
    assert (record.status, record.reason) == (Status.VERIFIED, Reason.DECISIVE_PASS)
    assert (record.route, record.stopped, record.escalated) == (Route.VOTE, Stopped.DECISIVE, True)
    first, second, *_ = record.samples
    assert (first.reward, first.label_source, first.selected) == (0.0, "verifier", False)
    assert (second.reward, second.label_source, second.selected) == (1.0, "verifier", True)
    [check] = second.checks
    assert (check.weight, check.required, check.outcome.value) == (2.0, True, "pass")


async def test_without_checks_there_is_no_reward(tmp_path: Path) -> None:
    record = await record_of(tmp_path, call(EASY, effort=Effort.HIGH), "\\boxed{4}")
    assert all((s.reward, s.label_source, s.checks) == (None, "none", ()) for s in record.samples)
    assert {sample.answer_key for sample in record.samples if not sample.censored} == {"4"}


@pytest.mark.parametrize(
    ("chat", "line", "reason"),
    [
        (call(OPEN, prompt=prompt(OPEN, Sampling(temperature=0.7))), "x", "sampling"),
        (call(OPEN, prompt=prompt(OPEN, logit_bias={"1": 2.0})), "x", "constrained"),
    ],
)
async def test_rows_that_must_not_train(tmp_path: Path, chat: ChatCall, line: str, reason: str) -> None:
    [sample] = (await record_of(tmp_path, chat, line)).samples
    assert (sample.rl_eligible, sample.ineligible_reason) == (False, reason)


async def test_a_sample_cut_at_its_limit_is_truncated(tmp_path: Path) -> None:
    [sample] = (await record_of(tmp_path, call(OPEN), Line("so long", finish_reason="length"))).samples
    assert sample.truncated and not sample.censored and sample.rl_eligible
