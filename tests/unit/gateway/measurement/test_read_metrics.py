"""Metrics that are read when they are asked for: the bill, the unbiased share, and files of other processes."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.telemetry.bill import Bill, Component
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.scorecard import Scorecard
from gateway.telemetry.served import Served
from gateway.telemetry.shadow import Shadow
from gateway.telemetry.state_files import StateFiles
from gateway.telemetry.trust_families import Audit
from router.calibration.file import save_calibration
from router.domain import Tokens
from router.enums import Purpose
from router.records import GroupRecord
from router.registry import PolicyRegistry
from router.settings import CostsSection
from router.training_facts import HeldoutScore, TrainingFacts, save_training_facts
from tests.support.calibrations import calibration

MOST_SERIES = 3000


def shown(metrics: Metrics, name: str) -> dict[str, float]:
    """The samples of a family by their labels, as text."""
    found = re.findall(rf"^thinktwice_{name}(?:{{(.*)}})? (\S+)$", metrics.render()[0].decode(), re.MULTILINE)
    return {labels: float(value) for labels, value in found}


def with_files(state: Path, log: Path, usd: float | None = 3.6) -> Metrics:
    metrics = Metrics()
    metrics.show(StateFiles(state, log, usd, clock=lambda: 1000.0))
    return metrics


class TestBill:
    def test_components_are_priced_by_tokens_and_by_the_hour(
        self, make_served: Callable[..., Served], make_group: Callable[..., GroupRecord]
    ) -> None:
        metrics = Metrics()
        metrics.bill.costs = CostsSection(core_usd_per_hour=3600.0)
        metrics.bill.judge_usd = lambda tokens: tokens.prompt * 2.0
        metrics.observe_answer(make_served(cost=1.0, group=make_group("fail", "pass")))
        metrics.observe_answer(make_served(cost=5.0, group=make_group("pass", audit=True)))
        metrics.observe_answer(make_served(cost=7.0, purpose=Purpose.EVAL))
        metrics.observe_audit("numeric", Audit.AGREE, 0.5)
        metrics.observe_judge(Tokens(3, 1))
        spent = {"generation": 1.0, "full_groups": 5.0, "evaluation": 7.0, "verification": 0.012, "audit": 0.5}
        expected = {f'component="{name}"': pytest.approx(usd) for name, usd in (spent | {"judge": 6.0}).items()}
        assert shown(metrics, "spending_usd_total") == expected
        assert shown(metrics, "engine_usd_per_hour") == {}

    def test_what_has_no_price_is_missing_and_not_0(self) -> None:
        assert set(Bill().spent()) == {Component.GENERATION, Component.FULL_GROUPS, Component.EVALUATION}
        assert Bill().idle_usd() is None

    def test_idle_is_what_the_tokens_do_not_explain(self) -> None:
        now = iter((100.0, 3700.0, 160.0))
        costs = CostsSection(engine_usd_per_hour=2.0)
        bill = Bill(costs, generation_usd=0.5, evaluation_usd=0.25, clock=lambda: next(now))
        assert bill.idle_usd() == pytest.approx(1.25)
        assert bill.idle_usd() == 0.0

    def test_the_scorecard_spreads_them_over_the_checked_requests(self, make_served: Callable[..., Served]) -> None:
        bill = Bill(CostsSection(core_usd_per_hour=3600.0), verification_s=3.0)
        trained = iter((10.0, 13.0, 13.0))
        scorecard = Scorecard(lambda *_: None, bill=bill, trained_usd=lambda: next(trained))
        for _ in range(2):
            scorecard.record(make_served(cost=1.0))
        report = scorecard.report()
        assert report["cost_per_solved_usd"]["value"] == pytest.approx(1.0)
        assert report["all_in_cost_per_solved_usd"]["value"] == pytest.approx(1.0 + (3.0 + 3.0) / 2)
        assert report["spending_usd"] == {
            "generation": 0.0, "full_groups": 0.0, "evaluation": 0.0, "verification": 3.0, "audit": 0.0, "judge": None,
            "training": 3.0, "idle": None,
        }  # fmt: skip


class TestShadow:
    def test_arms_of_the_lottery(
        self, make_served: Callable[..., Served], make_group: Callable[..., GroupRecord]
    ) -> None:
        metrics, scorecard = Metrics(), Scorecard(lambda _, tokens: float(tokens.completion))
        metrics.show(Shadow(scorecard.savings))
        full = make_group("fail", "pass", "pass", "pass", "pass", audit=True, group_propensity=0.1)
        scorecard.record(make_served(group=full))
        scorecard.record(make_served(group=make_group("pass", group_propensity=0.9, cost_usd=10.0)))
        assert shown(metrics, "shadow_solved_total") == {
            'arm="adaptive"': 1, 'arm="always_1"': 0, 'arm="always_5"': 1, 'arm="oracle"': 1,
        }  # fmt: skip
        assert shown(metrics, "shadow_cost_usd_total") == {
            'arm="adaptive"': 10.0, 'arm="always_1"': 10.0, 'arm="always_5"': 50.0, 'arm="oracle"': 20.0,
        }  # fmt: skip


class TestStateFiles:
    def test_training_and_held_out_scores(self, tmp_path: Path) -> None:
        score = HeldoutScore("eval", "policy-1-aaaaaaaa", 80, 100)
        facts = TrainingFacts({"promoted": 2, "failed": 1}, 900.0, 60.0, 3600.0, 12, 400.0, (score,), looked_at=950.0)
        save_training_facts(tmp_path, facts)
        metrics = with_files(tmp_path, tmp_path / "log")
        assert shown(metrics, "training_runs_total")['result="promoted"'] == 2
        assert shown(metrics, "training_last_success_timestamp_seconds") == {"": 900.0}
        assert shown(metrics, "training_last_look_timestamp_seconds") == {"": 950.0}
        assert shown(metrics, "training_duration_seconds") == {"": 60.0}
        assert shown(metrics, "training_cost_usd_total") == {"": pytest.approx(3.6)}
        assert shown(metrics, "grouplog_lag_records") == {'consumer="trainer"': 12}
        assert shown(metrics, "grouplog_lag_seconds") == {'consumer="trainer"': 600.0}
        labels = 'policy="policy-1-aaaaaaaa",suite="eval"'
        assert shown(metrics, "heldout_solve_rate") == {labels: 0.8}
        assert shown(metrics, "heldout_n") == {labels: 100}
        [low], [high] = (shown(metrics, f"heldout_solve_rate_ci_{end}").values() for end in ("low", "high"))
        assert 0.7 < low < 0.8 < high < 0.9

    def test_stages_follow_the_registry(self, tmp_path: Path) -> None:
        registry, names = PolicyRegistry(tmp_path), []
        for number in range(4):
            adapter = tmp_path / f"adapter-{number}"
            adapter.mkdir()
            (adapter / "weights").write_text(str(number))
            names.append(registry.register(adapter, {}))
        registry.promote(names[0], "", "")
        registry.promote(names[1], "", "")
        registry.rollback("", "")
        registry.try_out(names[2], 0.1, "", "")
        on = {labels for labels, value in shown(with_files(tmp_path, tmp_path), "model_stage").items() if value}
        stages = ("promoted", "rolled_back", "canary", "candidate")
        assert on == {f'policy="{name}",stage="{stage}"' for name, stage in zip(names, stages, strict=True)}

    def test_the_calibration_is_read_once_a_change(self, tmp_path: Path) -> None:
        metrics = with_files(tmp_path, tmp_path)
        assert shown(metrics, "route_calibration_error") == {}
        save_calibration(tmp_path, calibration())
        assert shown(metrics, "route_calibration_error") == shown(metrics, "route_calibration_error") == {"": 0.02}

    def test_segments_by_state(self, tmp_path: Path) -> None:
        (tmp_path / "w0").mkdir()
        for name in ("1.sealed", "2.sealed", "3.open"):
            (tmp_path / "w0" / name).touch()
        found = shown(with_files(tmp_path, tmp_path), "grouplog_segments")
        assert found == {'state="open"': 1, 'state="sealed"': 2, 'state="parquet"': 0}

    def test_a_damaged_file_leaves_the_others(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        (tmp_path / "training.json").write_text("{")
        metrics = with_files(tmp_path, tmp_path)
        assert shown(metrics, "training_runs_total") == {}
        assert shown(metrics, "grouplog_segments") and "training.json" in caplog.text


class TestBounds:
    def test_a_flood_of_labels_stays_under_the_budget(
        self, tmp_path: Path, make_served: Callable[..., Served], make_group: Callable[..., GroupRecord]
    ) -> None:
        metrics, scorecard = Metrics(models=["base"]), Scorecard(lambda *_: 1.0)
        metrics.show(Shadow(scorecard.savings))
        scores = tuple(HeldoutScore(f"suite-{number}", f"policy-{number}-aaaaaaaa", 1, 2) for number in range(500))
        facts = TrainingFacts(last_success=1.0, last_seconds=1.0, read_until=1.0)
        for score in scores:
            facts = facts.scored(score)
        save_training_facts(tmp_path, facts)
        metrics.show(StateFiles(tmp_path, tmp_path, 1.0))
        for number in range(500):
            metrics.set_policy(f"policy-{number}-aaaaaaaa", f"base-{number}")
            metrics.admit_model(f"larger-{number}")
            group = make_group("pass")
            for purpose in Purpose:
                for status in ("fail", "error"):
                    metrics.observe_answer(
                        make_served(policy=f"policy-{number}-aaaaaaaa", purpose=purpose, group=make_group(status))
                    )
            metrics.observe_logged(group)
            metrics.observe_error(400 + number, 0.1)
        series = [line for line in metrics.render()[0].decode().splitlines() if not line.startswith("#")]
        assert 1000 < len(series) <= MOST_SERIES

    def test_a_vote_is_an_exemplar_of_its_duration(
        self, make_served: Callable[..., Served], make_group: Callable[..., GroupRecord]
    ) -> None:
        metrics = Metrics()
        metrics.observe_answer(make_served(group=make_group("pass", group_id="019-abc")))
        body, content_type = metrics.render("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
        assert content_type.startswith("application/openmetrics-text") and body.endswith(b"# EOF\n")
        [line] = [line for line in body.decode().splitlines() if "019-abc" in line]
        assert line.startswith("thinktwice_request_duration_seconds_bucket") and b"_created" not in body
        assert b"019-abc" not in metrics.render()[0]
