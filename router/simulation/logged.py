"""From the group log: full groups to replay, and everything judged to calibrate on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from router.calibration.features import tenant_digest
from router.calibration.model import Escalated
from router.calibration.observe import Observation
from router.domain import MAX_SAMPLES, Candidate, CheckResult, CheckSpec, Prompt, Sample, VerificationSpec
from router.enums import CheckClass, Purpose, TaskKind
from router.records import GroupRecord, SampleRecord
from router.simulation.observe import observation
from router.simulation.problem import Problem
from router.verify.composite import compose


def problems_of(groups: Iterable[GroupRecord], policy: str) -> tuple[Problem, ...]:
    """The audited groups of a policy with all their samples judged by a decisive check: an unbiased part of traffic."""
    found = []
    for group in groups:
        if group.audit and group.policy == policy and (problem := _problem(group, b"")) is not None:
            found.append(problem)
    return tuple(each for each in found if len(each.samples) == MAX_SAMPLES)


def observations_of(groups: Iterable[GroupRecord], policy: str, salt: bytes) -> list[Observation]:
    """Every group of a policy with a decided sample; evaluations and replays are another traffic and stay out.

    `salt` is the installation's, so that tenants have the digests that serving gives them.
    """
    found = []
    for group in groups:
        if group.policy != policy or group.purpose is not Purpose.PROD or (problem := _problem(group, salt)) is None:
            continue
        found.append(observation(problem, group.group_propensity, full=group.audit))
    return found


def escalations_of(groups: Iterable[GroupRecord], policy: str) -> dict[str, Escalated]:
    """Of each larger model, how often its sample solved what the policy's own samples had not."""
    seen: defaultdict[str, list[bool]] = defaultdict(list)
    for group in groups:
        if group.policy != policy or group.purpose is not Purpose.PROD:
            continue
        for each in group.samples:
            candidate = _candidate(each, _checks(group)) if each.policy != policy else None
            if candidate is not None and candidate.verdict.decisive_completed:
                seen[each.policy].append(candidate.verdict.verified)
    return {model: Escalated(sum(solved), len(solved)) for model, solved in seen.items()}


def _checks(group: GroupRecord) -> tuple[CheckSpec, ...]:
    return tuple(
        CheckSpec(**(each | {"klass": CheckClass(each["klass"])})) for each in group.verification.get("checks", ())
    )


def _problem(group: GroupRecord, salt: bytes) -> Problem | None:
    """A group as a problem of the policy's decided samples; None when there is none."""
    specs, own = _checks(group), [each for each in group.samples if each.policy == group.policy]
    judged = [candidate for each in own if (candidate := _candidate(each, specs)) is not None]
    samples = tuple(candidate for candidate in judged if candidate.verdict.decisive_completed)
    if not samples:
        return None
    return Problem(
        id=group.group_id,
        prompt=Prompt(group.messages, group.options, own[0].sampling),
        spec=VerificationSpec(specs, profile=group.profile),
        kind=TaskKind(group.task),
        prompt_tokens=len(group.prompt_token_ids or ()) or group.prompt_tokens,
        samples=samples,
        solved=tuple(candidate.verdict.verified for candidate in samples),
        tenant=tenant_digest(group.tenant, salt),
    )


def _candidate(record: SampleRecord, specs: tuple[CheckSpec, ...]) -> Candidate | None:
    if record.censored or {check.id for check in record.checks} != {spec.id for spec in specs}:
        return None
    results = tuple(
        CheckResult(
            each.id,
            each.type,
            CheckClass(each.klass),
            each.outcome,
            each.score,
            each.ms,
            each.version,
            coverage=each.coverage,
        )
        for each in record.checks
    )
    sample = Sample(
        index=record.index,
        message=record.message,
        finish_reason=record.finish_reason,
        sampling=record.sampling,
        model=record.policy,
        token_ids=record.completion_token_ids,
        logprobs=record.behavior_logprobs,
    )
    return Candidate(sample, record.answer_key, results, compose(results, specs))
