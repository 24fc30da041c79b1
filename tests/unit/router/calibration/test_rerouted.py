"""A recalibration must not feed on its own decisions: what it learns from a log that its own routes have made."""

import random

import pytest

from router.calibration.features import prompt_features
from router.calibration.fit import fit
from router.calibration.model import Calibration
from router.domain import VerificationSpec
from router.enums import Effort, Outcome, TaskKind
from router.plan import Tally, stop_reason
from router.records import CheckRecord, GroupRecord
from router.route import Learned, Router, RouterSettings
from router.simulation.logged import observations_of
from tests.support.builders import check_spec, prompt
from tests.support.calibrations import calibration
from tests.support.groups import group, sample

PROMPTS = 1200
# The router believes that one more sample pays a little more than it costs of the one, a little less of the other.
BELIEVED = calibration(history={"known@1": 0.2, "doubted@1": -0.2})
CHECK = check_spec()
SPEC = {"checks": [{name: getattr(CHECK, name) for name in CHECK.__slots__} | {"klass": "decisive"}]}


def truth(profile: str, rng: random.Random) -> float:
    """The pass rate of a prompt: one sample in two solves either kind, but where it fails once on the one it always
    does, and on the other the next sample is as good as the first.
    """
    return float(rng.random() < 0.5) if profile == "known@1" else 0.5


AFTER_A_FAILURE = (0.0 + 0.5) / 2  # chance that the second sample solves, of both kinds together


def served(router: Router, profile: str, rng: random.Random) -> GroupRecord:
    """The group that a prompt of this kind becomes in the log."""
    asked = VerificationSpec((CHECK,), profile=profile)
    decision, plan = router.decide(prompt(), asked, Effort.MEDIUM, rng.random(), "base")
    rate, seen = truth(profile, rng), [False] * 0
    while not seen or stop_reason(plan, Tally(len(seen), verified=any(seen))) is None:
        seen.append(rng.random() < rate)
    return group(
        samples=tuple(judged(index, solved) for index, solved in enumerate(seen)),
        verification=SPEC,
        profile=profile,
        task=decision.task.value,
        audit=decision.audit,
        group_propensity=decision.propensity,
    )


def judged(index: int, solved: bool):
    outcome = Outcome.PASS if solved else Outcome.FAIL
    check = CheckRecord(id="c0", type="exact", klass="decisive", outcome=outcome, score=solved, ms=1.0, version="1")
    return sample(index, checks=(check,))


def relearned(explore_share: float, value: float | None = 40.0) -> Calibration:
    """What is learnt from the log of a router that explores this share, of groups of two samples at most."""
    settings = RouterSettings(0.5, 0.9, 2, audit_share=0.0, explore_share=explore_share)
    router, rng = Router(settings, Learned(BELIEVED, value)), random.Random(7)
    groups = [served(router, ("known@1", "doubted@1")[number % 2], rng) for number in range(PROMPTS)]
    return fit(observations_of(groups, "base", b""), policy="base", source="log", now=0.0).calibration


def chance(found: Calibration, profile: str, failures: int = 0) -> float:
    features = prompt_features(prompt(), TaskKind.OPEN, profile)
    return found.belief(features).chance_after(failures)


def after_a_failure(found: Calibration) -> float:
    return sum(chance(found, profile, 1) for profile in ("known@1", "doubted@1")) / 2


def test_a_log_that_was_routed_at_random_near_the_price_tells_the_true_rates() -> None:
    found = relearned(0.4)
    assert after_a_failure(found) == pytest.approx(AFTER_A_FAILURE, abs=0.05)
    assert (chance(found, "known@1") + chance(found, "doubted@1")) / 2 == pytest.approx(0.5, abs=0.04)


def test_without_that_share_the_router_keeps_believing_what_it_never_tries() -> None:
    found = relearned(0.0)
    assert after_a_failure(found) < AFTER_A_FAILURE - 0.1
    assert chance(found, "doubted@1") == pytest.approx(0.5, abs=0.04)  # of a first sample it is not mistaken


def test_groups_that_their_own_outcomes_stopped_do_not_bend_the_chance() -> None:
    settings = RouterSettings(0.5, 0.9, 5, audit_share=0.0)
    router, rng = Router(settings, Learned(BELIEVED)), random.Random(8)
    groups = [served(router, "doubted@1", rng) for _ in range(PROMPTS)]
    found = fit(observations_of(groups, "base", b""), policy="base", source="log", now=0.0).calibration
    assert chance(found, "doubted@1") == pytest.approx(0.5, abs=0.03) and found.strength >= 16
