"""The last wave: one sample of a larger model, where the policy's own did not settle it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from gateway.answer import Answer
from gateway.bootstrap.checks import check_settings
from gateway.call import ChatCall
from gateway.larger import LargerModel
from gateway.tenants.metering import LARGER, MeteredBackend
from router.calibration.model import Escalated
from router.domain import Tokens
from router.enums import Effort, OnFailure, Purpose, Reason, Route, Status, Stopped
from router.errors import BackendUnavailable, ConfigError
from router.records import GroupRecord
from router.route import Learned, Router, RouterSettings
from router.settings import EscalationSection, PriceSection, Settings
from tests.support.builders import PLAIN, check_spec
from tests.support.calibrations import calibration
from tests.support.fakes import ENGINE, Line, ScriptedBackend
from tests.support.serving import EASY, Serving, call, larger_model, serving

RIGHT = check_spec("right")
SMALL, BIG = PriceSection(input=1.0, output=2.0), PriceSection(input=10.0, output=20.0)
PRICES = {"base": SMALL, "big": BIG}
SETTINGS = RouterSettings(threshold=0.5, quorum=0.9, max_samples=5, audit_share=0.0)


def gateway(
    state: Path, *lines: Line | str, big: Line | str = "right", **changes: Any
) -> tuple[Serving, ScriptedBackend]:
    """The policy says `lines`, the larger model `big`; `terms` are those of the second."""
    second = ScriptedBackend([big if isinstance(big, Line) else Line(big)])
    larger = larger_model(second, changes.get("prices", {}).get("big"), **changes.pop("terms", {}))
    return serving(state, *lines, larger=larger, **changes), second


async def ask(serving: Serving, chat: ChatCall) -> Answer:
    return await serving.service.answer(await serving.service.prepare(chat))


def only(serving: Serving) -> GroupRecord:
    [record] = serving.log.records
    return record


async def test_where_all_samples_failed_the_larger_model_may_still_solve_it(tmp_path: Path) -> None:
    served, second = gateway(tmp_path, "wrong", prices=PRICES)
    answer = await ask(served, call(EASY, RIGHT))
    found = answer.verification
    assert (found.status, found.reason, found.stopped) == (Status.VERIFIED, Reason.DECISIVE_PASS, Stopped.DECISIVE)
    assert (found.route, found.escalated, found.samples, found.policy) == (Route.VOTE, True, 6, "big")
    assert (answer.message["content"], len(second.draws), len(served.backend.draws)) == ("right", 1, 3)
    own, big = Tokens(9, 5 * len("wrong")), Tokens(3, len("right"))
    assert (answer.tokens, answer.larger, answer.billed) == (own, big, own + big)
    assert found.cost_usd == pytest.approx((9 * 1.0 + 25 * 2.0 + 3 * 10.0 + 5 * 20.0) / 1e6)
    assert served.metric('thinktwice_escalated_samples_total{result="verified"}') == 1
    assert served.metric('thinktwice_escalations_total{status="verified",to="larger"}') == 1


async def test_its_sample_is_logged_in_its_own_name_and_never_trains_the_policy(tmp_path: Path) -> None:
    served, second = gateway(tmp_path, "wrong", prices=PRICES)
    await ask(served, call(EASY, RIGHT))
    record = only(served)
    *own, last = record.samples
    assert {each.policy for each in own} == {"base"} and all(each.rl_eligible for each in own[1:])
    assert (last.index, last.policy, last.selected, last.reward) == (5, "big", True, 1.0)
    assert (last.rl_eligible, last.ineligible_reason) == (False, "other_policy")
    assert (last.prompt_token_ids, last.completion_token_ids) == ((1, 2, 3), tuple(map(ord, "right")))
    assert (record.policy, record.escalated, record.prompt_tokens, record.completion_tokens) == ("base", True, 12, 30)
    assert served.metric('thinktwice_grouplog_samples_total{training="other_policy"}') == 1
    assert second.draws[0].sampling == PLAIN and second.draws[0].model == "big"


async def test_tokens_are_counted_by_the_model_that_drew_them(tmp_path: Path) -> None:
    served, _ = gateway(tmp_path, "wrong", prices=PRICES)
    served.deps.metrics.set_policy("base", "base")
    served.deps.metrics.admit_model("big")
    await ask(served, call(EASY, RIGHT))
    tokens = 'thinktwice_tokens_total{{model="{}",purpose="prod",type="output"}}'
    assert [served.metric(tokens.format(name)) for name in ("base", "big")] == [25, 5]
    scorecard = served.deps.scorecard.report()
    assert scorecard["tokens_per_solved"]["value"] == 42
    assert scorecard["cost_per_solved_usd"]["value"] == only(served).cost_usd


async def test_a_prompt_that_the_policy_solves_is_not_escalated(tmp_path: Path) -> None:
    served, second = gateway(tmp_path, "wrong", "right")
    answer = await ask(served, call(EASY, RIGHT))
    assert answer.verification.policy == "base" and second.draws == []


async def test_when_it_fails_too_the_first_answer_stands(tmp_path: Path) -> None:
    alone = serving(tmp_path / "alone", "wrong")
    served, _ = gateway(tmp_path, "wrong", big="bad")
    expected, answer = await ask(alone, call(EASY, RIGHT)), await ask(served, call(EASY, RIGHT))
    assert answer.message == expected.message and answer.verification.policy == "base"
    assert (answer.verification.status, answer.verification.stopped) == (Status.FAILED, Stopped.CAP)
    assert served.metric('thinktwice_escalated_samples_total{result="unverified"}') == 1


async def test_a_failure_of_its_engine_changes_nothing_but_the_record(tmp_path: Path) -> None:
    alone = serving(tmp_path / "alone", "wrong", prices=PRICES)
    broken = Line("", error=BackendUnavailable("gone"))
    served, second = gateway(tmp_path, "wrong", big=broken, prices=PRICES)
    expected, answer = await ask(alone, call(EASY, RIGHT)), await ask(served, call(EASY, RIGHT))
    same = structs.replace(
        answer.verification, group_id=expected.verification.group_id, cost_usd=expected.verification.cost_usd
    )
    assert (answer.message, same) == (expected.message, expected.verification)
    assert only(served).failures == ("big: gone",) and len(second.draws) == 1
    assert served.metric('thinktwice_escalated_samples_total{result="error"}') == 1


async def test_it_gets_its_own_time_and_no_more(tmp_path: Path) -> None:
    slow = Line("right", delay_s=30.0)
    served, second = gateway(tmp_path, "wrong", big=slow, prices=PRICES, terms={"timeout_s": 0.05})
    answer = await ask(served, call(EASY, RIGHT))
    assert (answer.verification.status, answer.verification.samples) == (Status.FAILED, 5)
    assert second.cancelled == 1 and answer.larger.completion > 0  # what it had drawn is in the bill
    assert (answer.verification.cost_usd or 0.0) > (9 * 1.0 + 25 * 2.0) / 1e6
    [cut] = [each for each in only(served).samples if each.policy == "big"]
    assert cut.censored and cut.ineligible_reason == "other_policy"


@pytest.mark.parametrize(
    ("changes", "escalated"),
    [
        ({}, True),
        ({"max_samples": 5, "samples_given": True}, False),  # a bound that was asked for counts every sample
        ({"effort": Effort.LOW}, False),
        ({"purpose": Purpose.EVAL}, False),
        ({"on_failure": OnFailure.REFUSE}, True),
    ],
)
async def test_who_may_have_an_answer_of_another_model(
    tmp_path: Path, changes: dict[str, Any], escalated: bool
) -> None:
    served, second = gateway(tmp_path, "wrong")
    await ask(served, call(EASY, RIGHT, **changes))
    assert bool(second.draws) == escalated


async def test_an_audited_group_is_the_policys_own(tmp_path: Path) -> None:
    served, second = gateway(tmp_path, "wrong", audit_share=1.0)
    await ask(served, call(EASY, RIGHT))
    assert second.draws == [] and only(served).audit


async def test_an_engine_that_does_not_answer_is_not_asked(tmp_path: Path) -> None:
    served, second = gateway(tmp_path, "wrong")
    assert served.deps.larger is not None
    served.deps.larger.facts = None
    assert (await ask(served, call(EASY, RIGHT))).verification.status is Status.FAILED
    assert second.draws == []


@pytest.mark.parametrize(("usd_per_solve", "escalated"), [(0.0004, False), (0.0005, True)])
async def test_its_sample_must_be_worth_its_price(tmp_path: Path, usd_per_solve: float, escalated: bool) -> None:
    """As long as the others, 3 + 5 tokens at its price are 130e-6 dollars; a chance of 0.3 pays that from 433e-6."""
    served, second = gateway(tmp_path, "wrong", prices=PRICES, terms={"usd_per_solve": usd_per_solve})
    await ask(served, call(EASY, RIGHT))
    assert bool(second.draws) == escalated


async def test_what_the_log_taught_replaces_what_was_configured(tmp_path: Path) -> None:
    router = Router(SETTINGS, Learned(calibration(escalations={"big": Escalated(0, 96)})))
    served, second = gateway(tmp_path, "wrong", prices=PRICES, terms={"usd_per_solve": 0.0005}, router=router)
    await ask(served, call(EASY, RIGHT))
    assert second.draws == []


@pytest.mark.parametrize(("solve_rate", "winner"), [(0.2, None), (0.95, "big")])
async def test_an_open_vote_is_settled_by_what_is_surer(tmp_path: Path, solve_rate: float, winner: str | None) -> None:
    lines = [f"\\boxed{{{number}}}" for number in (1, 1, 2, 2, 3)]
    router = Router(SETTINGS, Learned(calibration()))
    terms = {"solve_rate": solve_rate}
    served, second = gateway(tmp_path, *lines, big="\\boxed{9}", terms=terms, router=router)
    answer = await ask(served, call(EASY, effort=Effort.HIGH))
    assert bool(second.draws) == (winner is not None)
    assert answer.verification.policy == (winner or "base")
    assert answer.verification.status is Status.UNVERIFIED


async def test_a_verified_answer_of_it_is_cached_like_any_other(tmp_path: Path) -> None:
    served, second = gateway(tmp_path, "wrong")
    first, again = await ask(served, call(EASY, RIGHT)), await ask(served, call(EASY, RIGHT))
    assert again.verification.cached and again.message == first.message and len(second.draws) == 1
    assert again.verification.policy == "big"


async def test_a_group_cut_by_price_goes_on_with_it(tmp_path: Path) -> None:
    """One sample of the policy is all that a solve is worth, and then one of the larger model."""
    router = Router(SETTINGS, Learned(calibration(), 15.0))
    served, second = gateway(tmp_path, "wrong", router=router, prices={"base": BIG, "big": SMALL})
    answer = await ask(served, call(EASY, RIGHT))
    found = answer.verification
    assert (found.samples, found.route, found.escalated, found.policy) == (2, Route.VOTE, True, "big")
    assert answer.completion is None and len(second.draws) == 1


def looking(backend: ScriptedBackend, model: str = "base") -> LargerModel:
    section = EscalationSection(url="http://127.0.0.1:9", model=model)
    return LargerModel(section, MeteredBackend(backend, LARGER), None)


async def test_its_engine_is_probed_when_it_comes_up(tmp_path: Path) -> None:
    backend = ScriptedBackend([Line("")])
    larger = looking(backend)
    assert await larger.look() and larger.facts == ENGINE
    backend.up = False
    assert not await larger.look() and larger.facts is None


async def test_an_engine_of_another_model_is_not_asked(caplog: pytest.LogCaptureFixture) -> None:
    larger = looking(ScriptedBackend([Line("")]), "bigger")
    assert not await larger.look() and not await larger.look()
    assert [each.message for each in caplog.records] == [
        "nothing is escalated: the engine of [escalation] serves base, not bigger"
    ]


async def test_a_pinned_policy_answers_for_itself(tmp_path: Path) -> None:
    served, _ = gateway(tmp_path, "wrong")
    prepared = await served.service.prepare(call(EASY, RIGHT))
    pinned = structs.replace(prepared.policy, name="policy-1-12345678")
    asked = structs.replace(prepared.call, model=pinned.name)
    assert prepared.escalable
    assert not replace(prepared, policy=pinned, call=asked).escalable


SECTION = {"url": "http://127.0.0.1:9", "model": "big"}
VALUE = {"usd_per_solve": 0.01}


@pytest.mark.parametrize(
    ("tables", "cure"),
    [
        ({"backend": {"model": "big"}}, "name another"),
        ({"router": {"tokens_per_solve": 100.0}}, "set usd_per_solve"),
        ({"router": VALUE, "prices": {"base": {"input": 1, "output": 1}}}, r"add \[prices.'big'\]"),
    ],
)
def test_what_cannot_work_is_found_at_start(tmp_path: Path, tables: dict[str, Any], cure: str) -> None:
    with pytest.raises(ConfigError, match=cure):
        check_settings(Settings.model_validate({"escalation": SECTION, "state": {"dir": tmp_path}, **tables}))


def test_what_can_work(tmp_path: Path) -> None:
    both = {"base": {"input": 1, "output": 1}, "big": {"input": 9, "output": 9}}
    for tables in ({}, {"prices": both}, {"prices": both, "router": VALUE}):
        check_settings(Settings.model_validate({"escalation": SECTION, "state": {"dir": tmp_path}, **tables}))
