"""Finished requests to count."""

from collections.abc import Callable
from typing import Any

import pytest

from gateway.telemetry.served import Served
from router.domain import CheckResult, Tokens, Verification
from router.enums import CheckClass, Outcome, Reason, Route, Status, Stopped
from router.records import CheckRecord, GroupRecord, SampleRecord


def _check(outcome: Outcome, type: str, klass: CheckClass) -> CheckResult:
    score = {Outcome.PASS: 1.0, Outcome.FAIL: 0.0}.get(outcome)
    return CheckResult(id="c0", type=type, klass=klass, outcome=outcome, score=score, ms=4.0, version="1")


@pytest.fixture
def make_group() -> Callable[..., GroupRecord]:
    """`make_group("pass", "fail", tokens=10)`: one sample per outcome, `tokens` completion tokens each."""

    def make(*outcomes: str, tokens: int = 10, prompt: int = 20, **fields: Any) -> GroupRecord:
        samples = tuple(
            SampleRecord(
                index=index,
                message={"role": "assistant", "content": "42"},
                policy="base",
                finish_reason=None if outcome == "cut" else "stop",
                censored=outcome == "cut",
                completion_token_ids=tuple(range(tokens)),
                rl_eligible=outcome != "cut",
                ineligible_reason="censored" if outcome == "cut" else None,
                checks=()
                if outcome == "cut"
                else (
                    CheckRecord(
                        id="c0",
                        type="numeric",
                        klass="decisive",
                        outcome=Outcome(outcome),
                        score=None,
                        ms=4.0,
                        version="1",
                    ),
                ),
            )
            for index, outcome in enumerate(outcomes)
        )
        defaults: dict[str, Any] = {
            "group_id": "g",
            "created_at": 0.0,
            "tenant": "local",
            "train_consent": True,
            "prompt_hash": "h",
            "messages": (),
            "prompt_token_ids": tuple(range(prompt)),
            "base_model": "base",
            "policy": "base",
            "engine": "test",
            "engine_version": "1",
            "logprobs_mode": "processed_logprobs",
            "route": Route.VOTE,
            "stopped": Stopped.CAP,
            "planned_samples": 5,
            "difficulty": 0.5,
            "group_propensity": 0.9,
            "status": Status.VERIFIED if "pass" in outcomes else Status.FAILED,
            "reason": Reason.DECISIVE_PASS if "pass" in outcomes else Reason.ALL_FAILED,
            "samples": samples,
            "prompt_tokens": prompt,
            "completion_tokens": tokens * len(outcomes),
        }
        return GroupRecord(**(defaults | fields))

    return make


@pytest.fixture
def make_served() -> Callable[..., Served]:
    """A finished request; by default verified on the vote path. `status` etc. go to its verification."""

    def make(
        status: Status = Status.VERIFIED,
        route: Route = Route.VOTE,
        *,
        checked: bool = True,
        cost: float | None = None,
        tokens: Tokens = Tokens(20, 30),
        escalated: bool = False,
        reason: Reason = Reason.DECISIVE_PASS,
        policy: str = "base",
        samples: int = 3,
        **fields: Any,
    ) -> Served:
        outcome = Outcome.PASS if status is Status.VERIFIED else Outcome.FAIL
        verification = Verification(
            status=status,
            reason=reason,
            route=route,
            escalated=escalated,
            samples=samples,
            votes=2,
            agreement=0.67,
            difficulty=0.5,
            stopped=Stopped.DECISIVE,
            profile=None,
            score=1.0,
            checks=(_check(outcome, "numeric", CheckClass.DECISIVE),) if checked else (),
            group_id="g",
            policy=policy,
            cost_usd=cost,
        )
        return Served(verification, {policy: tokens}, **({"duration_s": 0.5, "overhead_s": 0.002} | fields))

    return make
