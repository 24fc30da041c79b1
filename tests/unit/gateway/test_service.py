import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from gateway.answer import Answer
from gateway.call import ChatCall
from router.domain import CheckResult, CheckSpec, Tokens
from router.enums import CheckClass, Effort, OnFailure, Outcome, Reason, Route, Status, Stopped
from router.errors import (
    LogUnavailable,
    NotVerified,
    ThinkTwiceError,
    VerificationFailed,
    VerifierUnavailable,
)
from router.records import GroupRecord
from router.settings import PriceSection
from tests.support.builders import check_spec, tool_call
from tests.support.fakes import Line, TextVerifier
from tests.support.serving import EASY, OPEN, Serving, call, serving

RIGHT = check_spec("right")
PRICE = PriceSection(input=1.0, output=2.0)


async def ask(serving: Serving, chat: ChatCall) -> Answer:
    return await serving.service.answer(await serving.service.prepare(chat))


def only(serving: Serving) -> GroupRecord:
    [record] = serving.log.records
    return record


async def test_an_easy_prompt_takes_one_sample(tmp_path: Path) -> None:
    gateway = serving(tmp_path, "a story")
    answer = await ask(gateway, call(OPEN))
    verification = answer.verification
    assert (verification.route, verification.stopped, verification.samples) == (Route.SINGLE, Stopped.SINGLE, 1)
    assert (verification.status, verification.reason) == (Status.UNVERIFIED, Reason.NO_ORACLE)
    assert answer.message["content"] == "a story" and answer.completion is not None
    assert [sample.message["content"] for sample in only(gateway).samples] == ["a story"]
    assert only(gateway).group_id == verification.group_id


async def test_a_verified_single_sample(tmp_path: Path) -> None:
    gateway = serving(tmp_path, "right")
    answer = await ask(gateway, call(EASY, RIGHT))
    assert (answer.verification.status, answer.verification.reason) == (Status.VERIFIED, Reason.DECISIVE_PASS)
    assert [check.outcome for check in answer.verification.checks] == [Outcome.PASS]
    record = only(gateway)
    assert record.samples[0].reward == 1.0 and record.samples[0].selected


async def test_a_failed_single_sample_is_escalated_and_counts_all_its_tokens(tmp_path: Path) -> None:
    gateway = serving(tmp_path, "wrong", "bad", "right", prices={"base": PRICE})
    answer = await ask(gateway, call(EASY, RIGHT))
    verification = answer.verification
    assert (verification.status, verification.route, verification.escalated) == (Status.VERIFIED, Route.VOTE, True)
    assert (verification.stopped, verification.samples) == (Stopped.DECISIVE, 3)
    assert answer.message["content"] == "right"
    assert answer.tokens == Tokens(prompt=6, completion=len("wrong" + "bad" + "right"))
    assert verification.cost_usd == pytest.approx((6 * 1.0 + 13 * 2.0) / 1e6)
    record = only(gateway)
    assert [sample.index for sample in record.samples] == [0, 1, 2] and record.escalated
    assert (record.prompt_tokens, record.completion_tokens) == (6, 13)
    assert gateway.metric('thinktwice_escalations_total{status="verified",to="vote"}') == 1


async def test_a_vote_stops_at_the_first_pass_and_keeps_the_sample_it_cut(tmp_path: Path) -> None:
    gateway = serving(tmp_path, "right", Line("slow and long", delay_s=5.0))
    answer = await ask(gateway, call(EASY, RIGHT, effort=Effort.HIGH))
    verification = answer.verification
    assert (verification.route, verification.stopped, verification.samples) == (Route.VOTE, Stopped.DECISIVE, 1)
    assert gateway.backend.cancelled == 1
    assert [sample.censored for sample in only(gateway).samples] == [False, True]


async def test_every_sample_is_logged_once_the_censored_one_too(tmp_path: Path) -> None:
    gateway = serving(tmp_path, "wrong", Line("right", delay_s=0.02), Line("too late", delay_s=5.0))
    answer = await ask(gateway, call(EASY, RIGHT))
    assert answer.verification.status is Status.VERIFIED
    samples = only(gateway).samples
    assert [(sample.index, sample.censored, sample.selected) for sample in samples] == [
        (0, False, False),
        (1, False, True),
        (2, True, False),
    ]
    cut = samples[2]
    assert cut.message["content"] == "too " and cut.reward is None and cut.checks == ()
    assert (cut.rl_eligible, cut.ineligible_reason) == (False, "censored")
    assert answer.tokens.completion == len("wrong" + "right" + "too ")


async def test_without_an_oracle_agreement_is_consensus(tmp_path: Path) -> None:
    gateway = serving(tmp_path, "It is \\boxed{4}.", "So \\boxed{4}", "\\boxed{5}")
    answer = await ask(gateway, call(EASY, effort=Effort.HIGH))
    verification = answer.verification
    assert (verification.status, verification.reason) == (Status.CONSENSUS, Reason.MAJORITY)
    assert verification.votes >= 2 and "4" in answer.message["content"]
    assert only(gateway).status is Status.CONSENSUS


async def test_when_every_sample_is_proved_wrong_the_answer_failed(tmp_path: Path) -> None:
    gateway = serving(tmp_path, "wrong")
    answer = await ask(gateway, call(EASY, RIGHT))
    verification = answer.verification
    assert (verification.status, verification.reason) == (Status.FAILED, Reason.ALL_FAILED)
    assert (verification.stopped, verification.samples) == (Stopped.CAP, 5)


@pytest.mark.parametrize(("text", "reason"), [("error", Reason.VERIFIER_ERROR), ("timeout", Reason.VERIFIER_TIMEOUT)])
async def test_our_own_failures_are_never_a_fail(tmp_path: Path, text: str, reason: Reason) -> None:
    gateway = serving(tmp_path, text)
    answer = await ask(gateway, call(EASY, RIGHT))
    assert (answer.verification.status, answer.verification.reason) == (Status.UNVERIFIED, reason)
    assert all(sample.reward is None and sample.label_source == "none" for sample in only(gateway).samples)


async def test_a_veto(tmp_path: Path) -> None:
    veto = check_spec("polite", CheckClass.VETO, id="v0", required=True)
    gateway = serving(tmp_path, "right")
    answer = await ask(gateway, call(EASY, RIGHT, veto))
    assert (answer.verification.status, answer.verification.reason) == (Status.UNVERIFIED, Reason.VETO)


async def test_an_audited_request_is_drawn_to_the_full(tmp_path: Path) -> None:
    gateway = serving(tmp_path, "right", audit_share=1.0)
    answer = await ask(gateway, call(EASY, RIGHT))
    record = only(gateway)
    assert answer.verification.samples == 5 and answer.verification.stopped is Stopped.CAP
    assert record.audit and record.group_propensity == 1.0 and len(record.samples) == 5


async def test_low_effort_is_one_sample_even_when_it_fails(tmp_path: Path) -> None:
    gateway = serving(tmp_path, "wrong", "right")
    answer = await ask(gateway, call(EASY, RIGHT, effort=Effort.LOW))
    assert (answer.verification.samples, answer.verification.status) == (1, Status.FAILED)


@pytest.mark.parametrize(("text", "error"), [("wrong", VerificationFailed), ("error", NotVerified)])
async def test_on_failure_error(tmp_path: Path, text: str, error: type[Exception]) -> None:
    gateway = serving(tmp_path, text)
    with pytest.raises(error) as refused:
        await ask(gateway, call(EASY, RIGHT, on_failure=OnFailure.ERROR))
    assert only(gateway).group_id == refused.value.verification.group_id  # type: ignore[attr-defined]
    refused_by = 'thinktwice_requests_total{code_class="4xx",outcome="refused",route="vote",stream="false"}'
    assert gateway.metric(refused_by) == 1


@pytest.mark.parametrize(("text", "words"), [("wrong", "No answer passed"), ("error", "No answer could be verified")])
async def test_on_failure_refuse(tmp_path: Path, text: str, words: str) -> None:
    gateway = serving(tmp_path, text)
    answer = await ask(gateway, call(EASY, RIGHT, on_failure=OnFailure.REFUSE))
    assert answer.message["content"] is None and words in answer.message["refusal"]
    assert answer.finish_reason == "content_filter" and answer.completion is None and answer.raw_logprobs is None
    assert answer.tokens.completion == 5 * len(text)
    assert gateway.deps.scorecard.report()["requests"]["refused"]["value"] == 1.0


async def test_on_failure_return(tmp_path: Path) -> None:
    gateway = serving(tmp_path, "wrong")
    answer = await ask(gateway, call(EASY, RIGHT, on_failure=OnFailure.RETURN))
    assert answer.message["content"] == "wrong" and answer.verification.status is Status.FAILED


async def test_without_a_price_the_cost_is_unknown(tmp_path: Path) -> None:
    gateway = serving(tmp_path, "a story")
    assert (await ask(gateway, call(OPEN))).verification.cost_usd is None
    assert gateway.metric("thinktwice_unpriced_answers_total") == 1


async def test_a_full_log_refuses_before_any_draw(tmp_path: Path) -> None:
    gateway = serving(tmp_path, "a story")
    gateway.log.full = True
    with pytest.raises(LogUnavailable):
        await ask(gateway, call(OPEN))
    assert gateway.backend.draws == []


async def test_a_verifier_that_is_down_refuses_checks_before_any_draw(tmp_path: Path) -> None:
    gateway = serving(tmp_path, "a story")
    gateway.verifier.up = False
    with pytest.raises(VerifierUnavailable):
        await ask(gateway, call(EASY, RIGHT))
    assert gateway.backend.draws == []
    assert (await ask(gateway, call(OPEN))).verification.status is Status.UNVERIFIED


async def test_a_group_that_cannot_be_logged_is_not_answered(tmp_path: Path) -> None:
    class Refusing:
        healthy, queue_length = None, 0

        def admit(self) -> None:
            """It looks well when asked."""

        async def append(self, record: GroupRecord) -> None:
            raise LogUnavailable("the disk went away")

    gateway = serving(tmp_path, "right", log=Refusing())
    with pytest.raises(ThinkTwiceError, match="went away"):
        await ask(gateway, call(EASY, RIGHT))
    assert gateway.metric("thinktwice_grouplog_appended_total") == 0
    other = serving(tmp_path, "right", store=gateway.store)
    assert not (await ask(other, call(EASY, RIGHT))).verification.cached


async def test_every_answer_of_many_at_once_is_logged_exactly_once(tmp_path: Path) -> None:
    gateway = serving(tmp_path, Line("wrong", delay_s=0.01), Line("right", delay_s=0.005), "bad")
    chats = [call(f"What is {number} + 1?", RIGHT, effort=Effort.HIGH) for number in range(40)]
    answers = await asyncio.gather(*(ask(gateway, chat) for chat in chats))
    logged = [record.group_id for record in gateway.log.records]
    assert sorted(logged) == sorted(answer.verification.group_id for answer in answers)
    for record in gateway.log.records:
        assert [sample.index for sample in record.samples] == sorted({sample.index for sample in record.samples})
        assert sum(sample.selected for sample in record.samples) == 1


class SlowToRefuse(TextVerifier):
    """Takes long over what is wrong: the right answer is judged first, whichever ended first."""

    async def verify(self, checks: Sequence[CheckSpec], text: str) -> tuple[CheckResult, ...]:
        await asyncio.sleep(0.0 if "right" in text else 0.5)
        return await super().verify(checks, text)


async def test_a_sample_that_ended_and_was_not_judged_in_time_is_logged_too(tmp_path: Path) -> None:
    gateway = serving(tmp_path, "wrong", Line("right", delay_s=0.05), verifier=SlowToRefuse())
    answer = await ask(gateway, call(EASY, RIGHT, effort=Effort.HIGH))
    assert answer.verification.status is Status.VERIFIED
    unjudged, winner = only(gateway).samples
    assert (unjudged.index, unjudged.censored, unjudged.reward, unjudged.checks) == (0, False, None, ())
    assert unjudged.message["content"] == "wrong" and unjudged.label_source == "none"
    assert (winner.index, winner.selected, winner.reward) == (1, True, 1.0)


@pytest.mark.parametrize("on_failure", list(OnFailure))
async def test_a_tool_call_is_a_step_and_no_answer_to_verify_or_withhold(tmp_path: Path, on_failure: OnFailure) -> None:
    called = Line("", "tool_calls", tool_calls=(tool_call('{"a": 1}'),))
    gateway = serving(tmp_path, called)
    answer = await ask(gateway, call(OPEN, RIGHT, on_failure=on_failure))
    verification = answer.verification
    assert (verification.status, verification.reason) == (Status.UNVERIFIED, Reason.NO_ORACLE)
    assert (verification.route, verification.escalated, verification.samples) == (Route.SINGLE, False, 1)
    assert [check.outcome for check in verification.checks] == [Outcome.SKIPPED]
    assert answer.message["tool_calls"] == list(called.tool_calls) and answer.finish_reason == "tool_calls"
    [sample] = only(gateway).samples
    assert (sample.reward, sample.label_source) == (None, "none") and sample.answer_key is not None
