import logging
import math
from pathlib import Path

import pytest

from gateway.bootstrap.checks import check_settings
from gateway.call import Tenant
from gateway.learning import Learning
from gateway.policies import ResolvedPolicy
from router.calibration.features import tenant_digest
from router.calibration.file import FILE_NAME, save_calibration
from router.calibration.model import Target
from router.domain import RouteDecision
from router.enums import Effort, Route, Stopped
from router.errors import ConfigError
from router.plan import Plan
from router.route import Learned, Router, RouterSettings
from router.settings import PriceSection, RouterSection, Settings
from tests.support.builders import check_spec, prompt, spec
from tests.support.calibrations import calibration
from tests.support.serving import EASY, call, serving

SETTINGS = RouterSettings(threshold=0.5, quorum=0.9, max_samples=5, audit_share=0.0)
BASE = ResolvedPolicy("base", "base", 0)


def learning(state_dir: Path, **section: float) -> Learning:
    return Learning(state_dir, RouterSection.model_validate(section), {"base": PriceSection(input=1.0, output=4.0)})


def decided(router: Router, *, policy: str = "base", checked: bool = True) -> tuple[RouteDecision, Plan]:
    checks = (check_spec(),) if checked else ()
    return router.decide(prompt("What is 2 + 2?"), spec(*checks), Effort.MEDIUM, None, policy)


def test_a_written_calibration_is_taken_up_and_a_removed_one_given_up(tmp_path: Path) -> None:
    following, plain = learning(tmp_path), Router(SETTINGS)
    assert decided(following.follow(plain, lambda: BASE))[0].difficulty != 0.5
    save_calibration(tmp_path, calibration())
    learned = following.follow(plain, lambda: BASE)
    assert decided(learned)[0].difficulty == pytest.approx(0.5)
    assert following.follow(learned, lambda: BASE) is learned
    (tmp_path / FILE_NAME).unlink()
    assert decided(following.follow(learned, lambda: BASE)) == decided(plain)


@pytest.mark.parametrize("bad", ["another policy", "the schema before", "the features before", "not finite", "damage"])
def test_a_refused_file_leaves_the_router_as_it_was_and_is_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, bad: str
) -> None:
    following = learning(tmp_path)
    save_calibration(tmp_path, calibration())
    router = following.follow(Router(SETTINGS), lambda: BASE)
    file = tmp_path / FILE_NAME
    match bad:
        case "another policy":
            save_calibration(tmp_path, calibration(policy="policy-1-12345678"))
        case "the schema before":
            file.write_text(file.read_text().replace('"schema_version": 2', '"schema_version": 1'))
        case "the features before":
            file.write_text(file.read_text().replace('"features_version": 2', '"features_version": 1'))
        case "not finite":
            file.write_text(file.read_text().replace('"strength": 1.0', '"strength": 1e999'))
        case _:
            file.write_text("{")
    with caplog.at_level(logging.WARNING):
        assert following.follow(router, lambda: BASE) is router
        assert following.follow(router, lambda: BASE) is router
    assert [record.message.startswith("the calibration is refused") for record in caplog.records] == [True]


def test_another_policy_is_routed_by_the_heuristic(tmp_path: Path) -> None:
    router = Router(SETTINGS, Learned(calibration()))
    assert decided(router, policy="policy-1-12345678") == decided(Router(SETTINGS))
    assert router.evidence("policy-1-12345678") is None and router.evidence("base") is not None


async def test_the_log_says_which_calibration_decided(tmp_path: Path) -> None:
    for learned, made in ((None, None), (Learned(calibration()), calibration().created_at)):
        gateway = serving(tmp_path, "4", router=Router(SETTINGS, learned))
        await gateway.service.answer(await gateway.service.prepare(call(EASY)))
        assert [record.calibrated for record in gateway.log.records] == [made]


def test_dollars_become_samples_at_the_price_of_the_policy(tmp_path: Path) -> None:
    save_calibration(tmp_path, calibration())
    router = learning(tmp_path, usd_per_solve=0.0001).follow(Router(SETTINGS), lambda: BASE)
    plan = decided(router)[1]
    sample_usd = (10 * 4.0 + 5 * 1.0) / 1e6
    assert plan.worth == pytest.approx(0.0001 / sample_usd, rel=1e-4)
    tokens = decided(learning(tmp_path, tokens_per_solve=30.0).follow(Router(SETTINGS), lambda: BASE))[1]
    assert tokens.worth == pytest.approx(3.0, rel=1e-4)


def test_a_solve_rate_target_has_the_price_that_calibrate_found(tmp_path: Path) -> None:
    save_calibration(tmp_path, calibration(target=Target(0.9, 36.0, 0.91)))
    plan = decided(learning(tmp_path, solve_rate_target=0.9).follow(Router(SETTINGS), lambda: BASE))[1]
    assert plan.worth == pytest.approx(36.0 / (10 + 5 / 4), rel=1e-4)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (None, "not made for solve_rate_target 0.9: run `thinktwice calibrate`, until then no price limits a group"),
        (Target(0.8, 36.0, 0.81), "not made for solve_rate_target 0.9"),
        (Target(0.9, None, 0.85), "full groups are expected to solve 85.0 %, and solve_rate_target is 90.0 %"),
    ],
)
def test_a_target_without_a_price_limits_nothing_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, target: Target | None, said: str
) -> None:
    save_calibration(tmp_path, calibration(target=target))
    plan = decided(learning(tmp_path, solve_rate_target=0.9).follow(Router(SETTINGS), lambda: BASE))[1]
    assert plan.worth is None and said in caplog.text


def test_a_target_waits_for_a_calibration_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    following, router = learning(tmp_path, solve_rate_target=0.9), Router(SETTINGS)
    assert decided(following.follow(router, lambda: BASE)) == decided(router)
    assert "solve_rate_target has no price yet: run `thinktwice calibrate`" in caplog.text


@pytest.mark.parametrize("other", ["usd_per_solve", "tokens_per_solve"])
def test_two_numbers_for_one_are_refused(tmp_path: Path, other: str) -> None:
    prices = {"base": {"input": 1, "output": 4}}
    both = {"router": {"solve_rate_target": 0.9, other: 0.5}, "prices": prices, "state": {"dir": tmp_path}}
    with pytest.raises(ConfigError, match=f"{other} and solve_rate_target each say .* set one of them"):
        check_settings(Settings.model_validate(both))


def test_a_price_decides_the_route_of_a_vote() -> None:
    poor, rich = (Router(SETTINGS, Learned(calibration(), value)) for value in (5.0, 5000.0))
    assert (decided(poor, checked=False)[0].route, decided(poor, checked=False)[0].reason) == (
        Route.SINGLE,
        "not_worth",
    )
    assert (decided(rich, checked=False)[0].route, decided(rich, checked=False)[0].reason) == (Route.VOTE, "worth")


@pytest.mark.parametrize("effort", [Effort.MEDIUM, Effort.HIGH])
async def test_a_prompt_that_is_not_worth_more_ends_as_hopeless(tmp_path: Path, effort: Effort) -> None:
    """At 1/2, then 1/4, one more sample of 10 tokens pays 12.5 of the 50 that a solve is worth, then 8.3."""
    gateway = serving(tmp_path, "wrong", router=Router(SETTINGS, Learned(calibration(), 50.0)))
    answer = await gateway.service.answer(await gateway.service.prepare(call(EASY, check_spec("right"), effort=effort)))
    assert (answer.verification.samples, answer.verification.stopped) == (2, Stopped.HOPELESS)
    [record] = gateway.log.records
    assert record.stopped is Stopped.HOPELESS and record.difficulty == pytest.approx(0.5)


async def test_a_single_sample_that_failed_may_be_all_that_is_worth_drawing(tmp_path: Path) -> None:
    gateway = serving(tmp_path, "wrong", router=Router(SETTINGS, Learned(calibration(), 15.0)))
    answer = await gateway.service.answer(await gateway.service.prepare(call(EASY, check_spec("right"))))
    assert (answer.verification.samples, answer.verification.stopped) == (1, Stopped.HOPELESS)
    assert not answer.verification.escalated


async def test_a_tenants_history_is_found_by_the_digest_of_its_name(tmp_path: Path) -> None:
    gateway = serving(tmp_path, "4")
    digest = tenant_digest("acme", gateway.deps.salt)
    gateway.deps.router = Router(SETTINGS, Learned(calibration(history={f" {digest}": 1.0})))
    asked = [call(EASY, tenant=Tenant(name, train_consent=False)) for name in ("acme", "other")]
    known, unknown = [(await gateway.service.prepare(each)).decision.difficulty for each in asked]
    assert known == pytest.approx(1 / (1 + math.e)) and unknown == pytest.approx(0.5)
