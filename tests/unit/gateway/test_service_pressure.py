"""Busy engines and impatient clients: samples are dropped before requests, and the answer says so."""

from pathlib import Path
from typing import Any

import pytest

from gateway.call import ChatCall
from router.domain import Verification
from router.enums import Effort, Purpose, Reason, Route, Status, Stopped
from tests.support.builders import check_spec
from tests.support.fakes import Line
from tests.support.serving import Serving, call, serving

HARD = "A shop sells 12 boxes of 24 pens each. If 37 pens are broken and each pen costs 3 dollars, how much is left?"
VOTE: dict[str, Any] = {"effort": Effort.HIGH, "no_store": True}


async def answered(rig: Serving, asked: ChatCall) -> Verification:
    return (await rig.service.answer(await rig.service.prepare(asked))).verification


@pytest.mark.parametrize(
    ("in_flight", "samples", "stopped"), [(10, 5, Stopped.CAP), (15, 3, Stopped.SHED), (20, 1, Stopped.SHED)]
)
async def test_a_vote_gets_smaller_with_the_load(
    tmp_path: Path, in_flight: int, samples: int, stopped: Stopped
) -> None:
    rig = serving(tmp_path, "wrong", shed_inflight=10, in_flight=lambda: in_flight)
    verification = await answered(rig, call(HARD, check_spec(), **VOTE))
    assert (verification.samples, verification.stopped, verification.route) == (samples, stopped, Route.VOTE)
    assert verification.status is Status.FAILED
    [record] = rig.log.records
    assert (record.stopped, record.planned_samples) == (stopped, 5)
    assert rig.metric(f'thinktwice_groups_stopped_total{{route="vote",stopped="{stopped}"}}') == 1


async def test_the_samples_a_client_asked_for_are_drawn(tmp_path: Path) -> None:
    rig = serving(tmp_path, "wrong", shed_inflight=10, in_flight=lambda: 1000)
    asked = call(HARD, check_spec(), min_samples=3, samples_given=True, **VOTE)
    verification = await answered(rig, asked)
    assert (verification.samples, verification.stopped) == (3, Stopped.SHED)


async def test_a_verified_sample_is_decisive_whatever_the_load(tmp_path: Path) -> None:
    rig = serving(tmp_path, "right", shed_inflight=10, in_flight=lambda: 1000)
    verification = await answered(rig, call(HARD, check_spec(), **VOTE))
    assert (verification.samples, verification.stopped) == (1, Stopped.DECISIVE)


async def test_a_single_sample_that_fails_is_not_escalated(tmp_path: Path) -> None:
    rig = serving(tmp_path, "wrong", "right", shed_inflight=10, in_flight=lambda: 1000)
    verification = await answered(rig, call("What is 2 + 2?", check_spec(), no_store=True))
    assert (verification.route, verification.escalated, verification.samples) == (Route.SINGLE, False, 1)
    assert (verification.stopped, verification.reason) == (Stopped.SHED, Reason.ALL_FAILED)


@pytest.mark.parametrize(("in_flight", "audit"), [(0, True), (1000, False)])
async def test_audits_are_not_taken_under_load(tmp_path: Path, in_flight: int, audit: bool) -> None:
    rig = serving(tmp_path, "4", audit_share=1.0, shed_inflight=10, in_flight=lambda: in_flight)
    await answered(rig, call("What is 2 + 2?"))
    [record] = rig.log.records
    assert (record.audit, len(record.samples)) == (audit, 5 if audit else 1)
    assert record.group_propensity == 1.0


async def test_an_evaluation_keeps_its_samples(tmp_path: Path) -> None:
    rig = serving(tmp_path, "wrong", shed_inflight=10, in_flight=lambda: 1000)
    verification = await answered(rig, call(HARD, check_spec(), purpose=Purpose.EVAL, **VOTE))
    assert (verification.samples, verification.stopped) == (5, Stopped.CAP)


async def test_the_deadline_is_the_sooner_of_the_clients_and_ours(tmp_path: Path) -> None:
    rig = serving(tmp_path, "wrong", Line("slow", delay_s=30.0))
    verification = await answered(rig, call(HARD, check_spec(), timeout_s=0.3, **VOTE))
    assert (verification.samples, verification.stopped) == (1, Stopped.DEADLINE)
    await answered(rig, call("What is 2 + 2?", timeout_s=1000.0))
    assert 4.0 < rig.backend.draws[-1].timeout_s <= 5.0
