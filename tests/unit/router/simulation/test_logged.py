from typing import Any

import pytest

from router.calibration.features import prompt_features, tenant_digest
from router.calibration.model import Escalated
from router.domain import Prompt
from router.enums import Outcome, Purpose, TaskKind
from router.records import CheckRecord, GroupRecord
from router.simulation.logged import escalations_of, observations_of, problems_of
from tests.support.builders import check_spec
from tests.support.groups import group, sample

SALT = b"salt"
SPEC = {
    "checks": [
        {"id": "c0", "type": "exact", "klass": "decisive", "version": "1", "required": True, "weight": 1.0}
        | {"timeout_s": 1.0, "params": {}}
    ]
}


def judged(index: int, outcome: Outcome, **fields: Any) -> Any:
    score = {Outcome.PASS: 1.0, Outcome.FAIL: 0.0}.get(outcome)
    check = CheckRecord(id="c0", type="exact", klass="decisive", outcome=outcome, score=score, ms=1.0, version="1")
    return sample(index, checks=(check,), **fields)


def logged(name: str, outcomes: list[Outcome], **fields: Any) -> GroupRecord:
    known: dict[str, Any] = {"verification": SPEC, "audit": True, "group_propensity": 0.02, "task": "number"}
    samples = tuple(judged(index, outcome) for index, outcome in enumerate(outcomes))
    return group(name, samples=samples, **(known | fields))


FULL = [Outcome.PASS, Outcome.FAIL, Outcome.PASS, Outcome.FAIL, Outcome.FAIL]


def test_audited_full_groups_of_the_policy_are_problems() -> None:
    groups = [
        logged("full", FULL),
        logged("early", FULL[:1]),
        logged("routed", FULL, audit=False, group_propensity=0.98),
        logged("other", FULL, policy="policy-1-12345678"),
    ]
    [problem] = problems_of(groups, "base")
    assert problem.id == "full" and problem.solved == (True, False, True, False, False)
    assert problem.samples[0].verdict.verified and problem.spec.has_oracle
    assert problem.prompt.sampling == groups[0].samples[0].sampling


def test_every_decided_sample_is_observed_with_its_propensity() -> None:
    groups = [logged("full", FULL), logged("early", FULL[:1], audit=False, group_propensity=0.98)]
    full, early = observations_of(groups, "base", SALT)
    assert (full.solved, len(full.samples), full.propensity) == (2, 5, 0.02)
    assert (early.solved, len(early.samples), early.propensity) == (1, 1, 0.98)


def test_only_an_audited_group_was_drawn_whatever_its_outcomes() -> None:
    full, early = observations_of([logged("full", FULL), logged("routed", FULL, audit=False)], "base", SALT)
    assert (len(full.unselected), len(early.unselected)) == (5, 1)


def test_a_tenant_has_the_digest_that_serving_gives_it_and_no_name() -> None:
    [seen] = observations_of([logged("g", FULL, tenant="acme", profile="sums@1")], "base", SALT)
    asked = prompt_features(Prompt(()), TaskKind.NUMBER, "sums@1", tenant_digest("acme", SALT))
    assert seen.features.history == asked.history == ("sums@1", f"sums@1 {tenant_digest('acme', SALT)}")
    assert "acme" not in repr(seen) and tenant_digest("acme", b"other") not in repr(seen)


@pytest.mark.parametrize("outcome", [Outcome.ERROR, Outcome.TIMEOUT])
def test_our_own_failures_teach_nothing(outcome: Outcome) -> None:
    assert observations_of([logged("undecided", [outcome])], "base", SALT) == []
    [partly] = observations_of([logged("partly", [outcome, Outcome.FAIL])], "base", SALT)
    assert len(partly.samples) == 1


def test_evaluations_and_cut_samples_stay_out() -> None:
    assert observations_of([logged("eval", FULL, purpose=Purpose.EVAL)], "base", SALT) == []
    cut = group("cut", samples=(judged(0, Outcome.PASS, censored=True),), verification=SPEC)
    assert observations_of([cut], "base", SALT) == []


def test_a_prompt_without_a_check_teaches_nothing() -> None:
    assert check_spec().klass.value == SPEC["checks"][0]["klass"]
    assert (
        observations_of([group("open", samples=(sample(checks=()),), verification={"checks": []})], "base", SALT) == []
    )


def escalated(name: str, outcome: Outcome, **fields: Any) -> GroupRecord:
    """Five of the policy's samples that failed, then one of a larger model."""
    samples = tuple(judged(index, Outcome.FAIL) for index in range(5))
    return group(name, samples=(*samples, judged(5, outcome, policy="big")), verification=SPEC, **fields)


def test_a_larger_models_sample_teaches_nothing_of_the_policy() -> None:
    [observed] = observations_of([escalated("g", Outcome.PASS)], "base", SALT)
    assert (observed.solved, len(observed.samples)) == (0, 5)


def test_how_often_it_solves_is_counted_by_model() -> None:
    groups = [
        escalated("solved", Outcome.PASS),
        escalated("not", Outcome.FAIL),
        escalated("unknown", Outcome.ERROR),
        escalated("eval", Outcome.PASS, purpose=Purpose.EVAL),
        escalated("another", Outcome.PASS, policy="policy-1-12345678"),
        logged("full", FULL),
    ]
    assert escalations_of(groups, "base") == {"big": Escalated(1, 2)}
    assert Escalated(1, 2).chance(0.5) == 0.5 and Escalated(0, 96).chance(0.5) == 0.02
