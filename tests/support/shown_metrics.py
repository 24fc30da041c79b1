"""Metrics with every family that a running gateway can show."""

from __future__ import annotations

from pathlib import Path

from gateway.telemetry.metrics import Metrics
from gateway.telemetry.savings import Savings
from gateway.telemetry.served import Served
from gateway.telemetry.shadow import Shadow
from gateway.telemetry.state_files import StateFiles
from router.calibration.file import save_calibration
from router.domain import EngineInfo, Tokens, Verification
from router.enums import Purpose, Reason, Route, Status, Stopped
from router.registry import PolicyRegistry
from router.settings import CostsSection
from router.training_facts import HeldoutScore, TrainingFacts, save_training_facts
from router.verify.measured import MeasuredRate
from tests.support.calibrations import calibration
from tests.support.groups import group, sample


def fill_state(folder: Path) -> None:
    """Files of a state directory that all have something to say: a policy, a calibration, a cycle, its evaluation."""
    adapter = folder / "adapter"
    adapter.mkdir(parents=True)
    (adapter / "weights").write_text("weights")
    name = PolicyRegistry(folder).register(adapter, {})
    score = HeldoutScore("eval", name, 61, 80)
    facts = TrainingFacts({"held": 1}, 1.7e9, 60.0, 60.0, 12, 1.7e9, (score,), 1.7e9)
    save_training_facts(folder, facts)
    save_calibration(folder, calibration())


def everything_shown(folder: Path) -> Metrics:
    """Metrics with every collector of a running gateway, over `fill_state`'s files in this folder."""
    fill_state(folder)
    metrics = Metrics(models=["m"])
    metrics.bill.costs = CostsSection(engine_usd_per_hour=1.0, trainer_usd_per_hour=1.0, core_usd_per_hour=1.0)
    metrics.bill.judge_usd = lambda _: 0.0
    metrics.show(Shadow(Savings(lambda *_: 1.0)))
    metrics.show(StateFiles(folder, folder, 1.0))
    metrics.set_policy("m", "m")
    metrics.set_engine(EngineInfo("vllm", "1", ("m",), True, "processed_logprobs"))
    metrics.set_measured({"math": MeasuredRate("1", 100, 1, 100, 1)})
    for purpose in Purpose:
        metrics.observe_answer(_served(purpose))
    return metrics


def _served(purpose: Purpose) -> Served:
    verification = Verification(
        status=Status.VERIFIED,
        reason=Reason.DECISIVE_PASS,
        route=Route.SINGLE,
        escalated=False,
        samples=1,
        votes=1,
        agreement=1.0,
        difficulty=0.5,
        stopped=Stopped.SINGLE,
        profile=None,
        score=1.0,
        checks=(),
        group_id="g",
        policy="m",
        cost_usd=0.0,
    )
    record = group(samples=(sample(policy="m"),))
    return Served(verification, {"m": Tokens(1, 1, 1)}, 0.1, 0.01, record, purpose=purpose)
