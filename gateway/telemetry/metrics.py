"""The metrics of one serving process, on a registry of their own, in the words of the domain.

Label values are the enums of `router.domain`, so a dashboard, a response and the group log say the same. Nothing a
client sends becomes a label: what is not in a closed set is counted as `other`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from gateway.resilience.breaker import BreakerState
from gateway.resilience.replica_state import ReplicaState
from gateway.telemetry import bill, shadow, state_files
from gateway.telemetry.families import OTHER, ClosedSet, Families, Family, WithoutCreated
from gateway.telemetry.metric_families import (
    CHECK_TYPES,
    ERROR_CODES,
    FINISHES,
    NO_ROUTE,
    TRAINING,
    VERIFIER_PARTS,
    Answers,
    CacheResult,
    Engines,
    Escalated,
    IdempotencyResult,
    Identity,
    Leader,
    Recheck,
    RequestOutcome,
    Spending,
    Stores,
    Traffic,
)
from gateway.telemetry.served import Served
from gateway.telemetry.trust_families import Audit, Trust
from router.domain import EngineInfo, Tokens
from router.enums import Outcome, Route
from router.log.labels import Label
from router.records import CheckRecord, GroupRecord, SampleRecord
from router.stats import upper_bound
from router.verify.measured import MeasuredRate
from router.verify.second.registry import AUDITED

__all__ = ["CacheResult", "IdempotencyResult", "Leader", "Metrics", "Recheck", "RequestOutcome"]


class Metrics:
    """Everything `/metrics` shows. `models` are the names that may be a label, `verifiers` the check types."""

    def __init__(self, models: Iterable[str] = (), verifiers: Iterable[str] = CHECK_TYPES) -> None:
        self._registry = CollectorRegistry()
        self._shown = WithoutCreated(self._registry)
        ProcessCollector(registry=self._registry)
        families, verifiers = Families(self._registry), tuple(verifiers)
        self._traffic, self._answers = Traffic(families), Answers(families, verifiers)
        self._spending, self._stores, self._identity = Spending(families), Stores(families), Identity(families)
        self._engines, self._trust = Engines(families), Trust(families, tuple(AUDITED))
        self.set_breaker(BreakerState.CLOSED)
        self._models = ClosedSet("model", models, self._identity.overflow)
        self._verifiers = ClosedSet("verifier", verifiers, self._identity.overflow)
        self._training = ClosedSet("training", TRAINING, self._identity.overflow)
        self.bill = bill.Bill()
        self.show(self.bill)
        read = (*bill.FAMILIES, *shadow.FAMILIES, *state_files.FAMILIES)
        self.catalogue: tuple[Family, ...] = (*families.catalogue, *read)

    def show(self, collector: Collector) -> None:
        """Also show what a collector reads when `/metrics` is asked."""
        self._registry.register(collector)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The exposition and its content type: OpenMetrics, which has exemplars, where `accept` names it."""
        if "application/openmetrics-text" in accept:
            body: bytes = openmetrics.generate_latest(self._shown)  # type: ignore[no-untyped-call]
            return body, openmetrics.CONTENT_TYPE_LATEST
        return generate_latest(self._shown), CONTENT_TYPE_PLAIN_0_0_4

    @contextmanager
    def in_flight(self) -> Iterator[None]:
        """Count a request as being served while the context is open."""
        self._traffic.inflight.inc()
        try:
            yield
        finally:
            self._traffic.inflight.dec()

    def observe_answer(self, served: Served) -> None:
        """Count a finished chat request: its time, answer, samples, checks, tokens and cost."""
        verification = served.verification
        route, status = verification.route, verification.status
        outcome = RequestOutcome.REFUSED if served.refused else RequestOutcome.OK
        # An exemplar costs more than the observation: votes, which are few and slow, have one.
        exemplar = {"group_id": served.group.group_id} if served.group and route is Route.VOTE else None
        self._ended(route, outcome, served.code, served.duration_s, served.stream, exemplar)
        self._traffic.overhead.labels(route).observe(max(0.0, served.overhead_s))
        if served.first_token_s is not None:
            self._traffic.first_token.labels(route).observe(served.first_token_s)
        self._answers.answers.labels(route, status, served.purpose).inc()
        if served.refused:
            self._answers.refusals.labels(verification.reason).inc()
        if verification.escalated:
            self._answers.escalations.labels("larger" if len(served.spent) > 1 else "vote", status).inc()
        self._observe_cost(served)
        if served.group is not None:
            self._answers.samples_per_request.labels(route).observe(verification.samples)
            self._answers.stopped.labels(route, verification.stopped).inc()
            for sample in served.group.samples:
                self._observe_sample(sample)

    def observe_error(self, code: int, duration_s: float, stream: bool = False) -> None:
        """Count a chat request that ended in the HTTP error `code`, before or after its route was taken."""
        self._ended(NO_ROUTE, RequestOutcome.ERROR, code, duration_s, stream)
        self._traffic.errors.labels(str(code) if str(code) in ERROR_CODES else OTHER).inc()

    def observe_denied(self, code: str) -> None:
        """Count a request that was not admitted, on any route, by its error code."""
        self._traffic.denied.labels(code).inc()

    def observe_cancelled(self, duration_s: float, stream: bool = False) -> None:
        """Count a chat request whose client went away (499 in the log of other servers)."""
        self._ended(NO_ROUTE, RequestOutcome.CANCELLED, 499, duration_s, stream)

    def observe_replayed(self, code: int, duration_s: float) -> None:
        """Count a chat request that got the response it had before."""
        self._ended(NO_ROUTE, RequestOutcome.OK, code, duration_s, stream=False)

    def observe_idempotency(self, result: IdempotencyResult) -> None:
        """Count a request with an `Idempotency-Key`."""
        self._stores.idempotency.labels(result).inc()

    def observe_cache(self, result: CacheResult) -> None:
        """Count one question to the answer cache."""
        self._stores.lookups.labels(result).inc()

    def observe_escalated(self, result: Escalated) -> None:
        """Count a sample that was asked of the larger model."""
        self._answers.escalated.labels(result).inc()

    def observe_coalesced(self, leader: Leader) -> None:
        """Count a request that was answered by another's computation."""
        self._stores.coalesced.labels(leader).inc()

    def observe_recheck(self, result: Recheck) -> None:
        """Count a cache hit that was drawn to be checked again."""
        self._stores.rechecks.labels(result).inc()

    def observe_rejected(self) -> None:
        """Count a stored value that was damaged or not written by a gateway with this secret."""
        self._stores.rejected.inc()

    def observe_logged(self, group: GroupRecord) -> None:
        """Count a group handed to the log, and its samples by whether they can train."""
        self._stores.appended.inc()
        for sample in group.samples:
            reason = "eligible" if sample.rl_eligible else sample.ineligible_reason or OTHER
            self._stores.rows.labels(self._training.fold(reason)).inc()

    def observe_log_refused(self) -> None:
        """Count a request that the group log could not admit."""
        self._stores.refused.inc()

    def observe_fsync(self, seconds: float) -> None:
        """Record the time of one group commit."""
        self._stores.fsync.observe(seconds)

    def set_log_queue(self, groups: int) -> None:
        """Show how many groups wait for the disk."""
        self._stores.queue.set(groups)

    def set_queued(self, requests: int) -> None:
        """Show how many requests wait to be served."""
        self._traffic.queued.set(requests)

    def set_loop_lag(self, seconds: float) -> None:
        """Show how late the event loop is."""
        self._traffic.loop_lag.set(seconds)

    def set_cache(self, store: str, up: bool) -> None:
        """Show whether the cache (`redis` or `memory`) serves."""
        self._stores.cache_up.labels(store).set(up)

    def set_verifier(self, down: Collection[str]) -> None:
        """Show which parts of verification work."""
        for part in VERIFIER_PARTS:
            self._answers.verifier_up.labels(part).set(part not in down)

    def set_measured(self, rates: Mapping[str, MeasuredRate]) -> None:
        """Show how often the checks were wrong when they were measured."""
        for verifier, rate in rates.items():
            for gauge, errors, n in (
                (self._trust.false_accepts, rate.false_accepts, rate.negatives),
                (self._trust.false_rejects, rate.false_rejects, rate.positives),
            ):
                if (upper := upper_bound(errors, n)) is not None:
                    gauge.labels(verifier, "estimate").set(errors / n)
                    gauge.labels(verifier, "upper").set(upper)

    def observe_audit(self, verifier: str, result: Audit, seconds: float = 0.0) -> None:
        """Count what a second verifier said of an answer that `verifier` accepted, and the time it took."""
        self._trust.audits.labels(verifier, result).inc()
        self.bill.audit_s += seconds

    def observe_label(self, label: Label) -> None:
        """Count one feedback or review."""
        self._trust.observe_label(label)

    def observe_judge(self, tokens: Tokens) -> None:
        """Count the tokens of one grading."""
        self._trust.judge_tokens.labels("input").inc(tokens.prompt)
        self._trust.judge_tokens.labels("output").inc(tokens.completion)
        self.bill.judged += tokens

    def set_judge_traps(self, passed: int) -> None:
        """Show how many traps the judge accepted at its last examination."""
        self._trust.judge_traps.set(passed)

    def set_breaker(self, state: BreakerState) -> None:
        """Show whether Redis is asked."""
        for each in BreakerState:
            self._stores.breaker.labels(each).set(each is state)

    def observe_failover(self) -> None:
        """Count a request that went on to a second engine."""
        self._engines.failovers.inc()

    def set_replicas(self, states: Mapping[ReplicaState, int], in_flight: int) -> None:
        """Show the engines by whether they are used, and the samples they generate for this process."""
        for state in ReplicaState:
            self._engines.replicas.labels(state).set(states.get(state, 0))
        self._engines.inflight.set(in_flight)

    def set_engine(self, info: EngineInfo | None) -> None:
        """Show the engine that answers, or that none does."""
        self._identity.engine_up.set(info is not None)
        if info is not None:
            self._identity.engine.clear()
            self._identity.engine.labels(info.engine, info.version, info.logprobs_mode).set(1)

    def admit_model(self, name: str) -> None:
        """Admit a model's name as a label."""
        self._models.learn((name,))

    def set_policy(self, policy: str, base_model: str) -> None:
        """Show the policy that serves, and admit its name as a label."""
        self._models.learn((policy, base_model))
        self._identity.policy.clear()
        self._identity.policy.labels(policy, base_model).set(1)

    def _ended(
        self,
        route: str,
        outcome: RequestOutcome,
        code: int,
        duration_s: float,
        stream: bool,
        exemplar: dict[str, str] | None = None,
    ) -> None:
        self._traffic.requests.labels(route, outcome, f"{code // 100}xx", str(stream).lower()).inc()
        self._traffic.duration.labels(route, outcome).observe(duration_s, exemplar)

    def _observe_cost(self, served: Served) -> None:
        for name, tokens in served.spent.items():
            model = self._models.fold(name)
            for kind, count in _by_type(tokens).items():
                if count:
                    self._spending.tokens.labels(model, kind, served.purpose).inc(count)
        if served.verification.cost_usd is None:
            self._spending.unpriced.inc()
        else:
            self._spending.cost.labels(served.verification.route, served.purpose).inc(served.verification.cost_usd)
            full = served.group is not None and served.group.audit
            self.bill.add_answer(served.verification.cost_usd, served.purpose, full_group=full)

    def _observe_sample(self, sample: SampleRecord) -> None:
        finish = sample.finish_reason or "cancelled"
        self._answers.samples.labels(self._models.fold(sample.policy), finish if finish in FINISHES else OTHER).inc()
        for check in sample.checks:
            self._observe_check(check)

    def _observe_check(self, check: CheckRecord) -> None:
        verifier = self._verifiers.fold(check.type)
        self._answers.verifications.labels(verifier, check.outcome).inc()
        if check.outcome is not Outcome.SKIPPED:
            self._answers.verifier_duration.labels(verifier).observe(check.ms / 1000)
            self.bill.verification_s += check.ms / 1000


def _by_type(tokens: Tokens) -> dict[str, int]:
    uncached = max(0, tokens.prompt - tokens.cached_prompt)
    return {"input": uncached, "cached_input": tokens.cached_prompt, "output": tokens.completion}
