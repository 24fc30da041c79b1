"""From a decoded request to its group record."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from gateway.answer import Concluded, Prepared
from router.domain import Candidate, CheckResult, CheckSpec, EngineInfo, Sample, Turn, VerificationSpec
from router.enums import Outcome, Purpose
from router.records import CheckRecord, GroupRecord, SampleRecord, ToolCallRecord, TurnRecord
from router.sampling import ineligible_reason
from router.tool_loop import offering


def check_record(result: CheckResult, spec: CheckSpec | None = None) -> CheckRecord:
    """A check's result as it is stored."""
    return CheckRecord(
        id=result.id,
        type=result.type,
        klass=result.klass.value,
        outcome=result.outcome,
        score=result.score,
        ms=result.ms,
        version=result.version,
        required=spec.required if spec else True,
        weight=spec.weight if spec else 1.0,
        coverage=result.coverage,
    )


def group_record(
    prepared: Prepared, concluded: Concluded, engine: EngineInfo, *, prompt_hash: str, heldout: bool
) -> GroupRecord:
    """Everything the request drew, judged or cut short, with what decided it. `created_at` is now."""
    call, decoded, verification = prepared.call, concluded.decoded, concluded.verification
    winner, replayed = concluded.ballot.winner, call.replayed
    candidates = [_sample_record(prepared, engine, c.sample, c, c is winner) for c in decoded.candidates]
    unjudged = [_sample_record(prepared, engine, sample, None, selected=False) for sample in decoded.unjudged]
    return GroupRecord(
        group_id=prepared.group_id,
        created_at=time.time(),
        request_id=call.request_id,
        tenant=call.tenant.name if replayed is None else replayed.tenant,
        train_consent=call.tenant.train_consent or call.purpose is Purpose.REPLAY,  # admitted where its tenant consents
        purpose=call.purpose,
        replays=None if replayed is None else replayed.group_id,
        heldout=heldout,
        prompt_hash=prompt_hash,
        messages=tuple(dict(message) for message in call.prompt.messages),
        options=dict(offering(call.prompt, call.spec).options),
        verification=_specification(call.spec),
        prompt_token_ids=decoded.prompt_token_ids,
        base_model=prepared.policy.base_model,
        policy=prepared.policy.name,
        engine=engine.engine,
        engine_version=engine.version,
        logprobs_mode=engine.logprobs_mode,
        template_fingerprint=engine.template_fingerprint,
        route=verification.route,
        stopped=verification.stopped,
        escalated=verification.escalated,
        audit=prepared.decision.audit,
        planned_samples=prepared.plan.maximum,
        difficulty=verification.difficulty,
        group_propensity=prepared.decision.propensity,
        calibrated=prepared.decision.calibrated,
        task=prepared.decision.task.value,
        status=verification.status,
        reason=verification.reason,
        profile=verification.profile,
        score=verification.score,
        votes=verification.votes,
        samples=tuple(sorted(candidates + unjudged, key=lambda record: record.index)),
        failures=tuple(decoded.failures),
        prompt_tokens=decoded.billed.prompt,
        completion_tokens=decoded.billed.completion,
        cost_usd=verification.cost_usd,
    )


def _sample_record(
    prepared: Prepared, engine: EngineInfo, sample: Sample, candidate: Candidate | None, selected: bool
) -> SampleRecord:
    """One sample; `candidate` is None for a sample that was cut short and never judged."""
    own = sample.model == prepared.policy.name
    ineligible = ineligible_reason(sample, prepared.call.prompt, engine) if own else "other_policy"
    judged = candidate is not None and candidate.verdict.outcome in (Outcome.PASS, Outcome.FAIL)
    specs = {spec.id: spec for spec in prepared.call.spec.checks}
    return SampleRecord(
        index=sample.index,
        message=dict(sample.message),
        finish_reason=sample.finish_reason,
        stop_reason=sample.stop_reason,
        truncated=sample.finish_reason == "length",
        censored=not sample.completed,
        completion_token_ids=sample.token_ids,
        behavior_logprobs=sample.logprobs,
        sampling=sample.sampling,
        policy=sample.model,
        checks=tuple(check_record(result, specs.get(result.id)) for result in candidate.checks) if candidate else (),
        reward=candidate.verdict.score if candidate is not None and judged else None,
        label_source="verifier" if judged and specs else "none",
        answer_key=candidate.answer_key if candidate else None,
        selected=selected,
        rl_eligible=ineligible is None,
        ineligible_reason=ineligible,
        turns=tuple(_turn_record(turn) for turn in sample.turns),
        prompt_token_ids=sample.prompt_token_ids,
    )


def _turn_record(turn: Turn) -> TurnRecord:
    return TurnRecord(
        message=dict(turn.message),
        finish_reason=turn.finish_reason,
        calls=tuple(ToolCallRecord(**asdict(result)) for result in turn.results),
        prompt_token_ids=turn.prompt_token_ids,
        completion_token_ids=turn.token_ids,
        behavior_logprobs=turn.logprobs,
    )


def _specification(spec: VerificationSpec) -> dict[str, Any]:
    """The whole merged specification, references included, as plain JSON values."""
    return {
        "profile": spec.profile,
        "on_failure": spec.on_failure.value,
        "samples": {"min": spec.min_samples, "max": spec.max_samples},
        "tools": [f"{tool.name}@{tool.version}" for tool in spec.tools],
        "max_turns": spec.max_turns,
        "checks": [asdict(check) | {"klass": check.klass.value, "params": dict(check.params)} for check in spec.checks],
    }
