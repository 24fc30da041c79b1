"""One serving process: everything made, connected and started."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

from gateway.adapters.memory_quota import MemoryQuota
from gateway.adapters.redis_quota import RedisQuota
from gateway.adapters.redis_store import RedisStore
from gateway.audits import Audits
from gateway.bootstrap.adapters import Adapters, open_adapters
from gateway.bootstrap.checks import tenant_limits
from gateway.canary import CanaryWatch
from gateway.cost import cost_usd, price_of
from gateway.dependencies import Dependencies
from gateway.http.admission import Admission
from gateway.http.chat import ChatRoute
from gateway.http.drain import Drain
from gateway.http.feedback import Labelling
from gateway.http.groups import GroupRoutes
from gateway.http.idempotency import Idempotency
from gateway.http.passthrough import Passthrough
from gateway.http.policy_routes import PolicyRoutes
from gateway.http.runtime import ChatEndpoint, Runtime
from gateway.judge import Judge, JudgingVerifier
from gateway.larger import LargerModel
from gateway.learning import Learning
from gateway.policies import PolicyDirectory
from gateway.service import AnswerService
from gateway.shadowing import Shadowing
from gateway.telemetry.bill import Bill
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.outcomes import Outcomes
from gateway.telemetry.scorecard import Scorecard
from gateway.telemetry.shadow import Shadow
from gateway.telemetry.state_files import StateFiles
from gateway.tenants.gate import FairGate
from gateway.tenants.key_file import KeyDirectory, KeyFile
from gateway.tenants.limiter import Limiter
from gateway.tenants.metering import LARGER, MeteredBackend
from gateway.tenants.quota import Limits
from gateway.watcher import Watcher
from router.domain import Tokens
from router.guardrails import Guardrails, PolicyVerifier
from router.heldout import load_salt
from router.log.index import GroupIndex
from router.log.labels import append_label
from router.ports import Verifier
from router.registry import PolicyRegistry
from router.route import Router, RouterSettings
from router.settings import RouterSection, Settings
from router.verify.measured import measured_rates
from router.verify.registry import CHECK_TYPES

_LEASE_SLACK_S = 60.0  # a stream may go on past its deadline while its client reads
_FIRST_LOOK_S = 5.0  # an engine that stalls does not keep the gateway from answering its probes

_log = logging.getLogger(__name__)


@asynccontextmanager
async def open_runtime(settings: Settings) -> AsyncIterator[Runtime]:
    """A running gateway; closes in reverse order, the log last but for the workers it does not need."""
    async with AsyncExitStack() as stack:
        keys, limits = _keys(settings), tenant_limits(settings)
        metrics = Metrics(verifiers=CHECK_TYPES)
        metrics.set_measured(measured_rates())
        metrics.bill.costs = settings.costs
        state_files = StateFiles(settings.state.dir, settings.log.dir, settings.costs.trainer_usd_per_hour)
        adapters = await open_adapters(stack, settings, metrics)
        backend, store, log_dir = adapters.backend, adapters.store, settings.log.dir
        metered = MeteredBackend(backend) if any(each.budgeted for each in limits.values()) else backend
        larger = _larger(settings, adapters, metrics)
        model = settings.judge.model
        metrics.bill.judge_usd = lambda tokens: cost_usd(tokens, settings.prices.get(model or ""))
        judge = None if model is None else Judge(metered, model, metrics, lambda: deps.engine)
        audits = Audits(adapters.verifier, metrics, partial(append_label, log_dir), settings.verify.audit_share)
        registry = PolicyRegistry(settings.state.dir)
        policies = PolicyDirectory(registry, backend, settings.backend.model)
        deps = Dependencies(
            backend=metered,
            verifier=JudgingVerifier(_guarded(settings, adapters), judge),
            guardrails=Guardrails(settings.policy.lists, settings.verify.timeout_s),
            audits=audits,
            canary=CanaryWatch(registry, policies, settings.state.dir),
            tools=adapters.tools,
            store=store,
            log=adapters.log,
            policies=policies,
            router=Router(router_settings(settings.router)),
            metrics=metrics,
            scorecard=_scorecard(settings, policies, metrics.bill, state_files),
            prices=settings.prices,
            deadline_s=settings.server.deadline_s,
            heldout_share=settings.heldout.share,
            salt=load_salt(settings.state.dir),
            caching=settings.redis,
            larger=larger,
            shed_inflight=settings.server.shed_inflight,
            in_flight=lambda: backend.in_flight,
        )
        tracer = _traced(stack, settings, deps)
        metrics.show(Shadow(deps.scorecard.savings))
        metrics.show(state_files)
        limiter = _limiter(settings, limits, adapters)
        gate = FairGate(settings.server.max_inflight, settings.server.max_queued, metrics.set_queued)
        admission = Admission(limiter, gate)
        labelling = Labelling(deps, admission, settings)
        learning = Learning(settings.state.dir, settings.router, settings.prices)
        cache_name = "redis" if settings.redis.url else "memory"
        watcher = Watcher(deps, keys, limiter, cache_name=cache_name, learning=learning)
        with suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_LOOK_S):
                await watcher.look()
        service = AnswerService(deps)
        beside = [] if judge is None else [judge.run()]
        if settings.shadow is not None:
            shadowing = Shadowing(service, deps, settings.shadow)
            service.shadow = shadowing.offer
            beside.append(shadowing.run())
        for background in (watcher.run(), service.rechecks.run(), audits.run(), *beside):
            stack.push_async_callback(_cancelled, asyncio.create_task(background))
        chat: ChatEndpoint = ChatRoute(service, deps, admission, Idempotency.of(deps), settings)
        yield Runtime(
            deps=deps,
            chat=chat if tracer is None else tracer(chat),
            passthrough=Passthrough(backend, deps, admission, settings),
            labelling=labelling,
            groups=GroupRoutes(labelling, settings),
            policies=PolicyRoutes(registry, policies),
            outcomes=Outcomes(GroupIndex(log_dir)),
            watcher=watcher,
            keys=keys,
            started_at=time.time(),
            drain=Drain(settings.server.drain_s),
        )


def _traced(
    stack: AsyncExitStack, settings: Settings, deps: Dependencies
) -> Callable[[ChatEndpoint], ChatEndpoint] | None:
    """Trace the ports, where that is configured; what does the same for the chat route."""
    if settings.tracing.otlp_url is None:
        return None
    from gateway.bootstrap.tracing import TracedChat, open_tracer, trace  # noqa: PLC0415  # of an extra

    tracer = open_tracer(stack, settings.tracing.otlp_url)
    trace(deps, tracer)
    return lambda chat: TracedChat(chat, tracer)


def _larger(settings: Settings, adapters: Adapters, metrics: Metrics) -> LargerModel | None:
    """The second model, where one is configured; its draws are metered apart, since they have their own price."""
    section = settings.escalation
    if section is None or adapters.larger is None:
        return None
    metrics.admit_model(section.model)
    backend = MeteredBackend(adapters.larger, LARGER)
    return LargerModel(section, backend, settings.prices.get(section.model), settings.router.usd_per_solve)


def router_settings(section: RouterSection) -> RouterSettings:
    """The section as the router reads it."""
    return RouterSettings(
        threshold=section.difficulty_threshold,
        quorum=section.quorum,
        max_samples=section.max_samples,
        audit_share=section.audit_share,
        explore_share=section.explore_share,
        explore_margin=section.explore_margin,
    )


def _guarded(settings: Settings, adapters: Adapters) -> Verifier:
    """The verifier behind the operator's policy lists, if there are any."""
    lists = settings.policy.lists
    return PolicyVerifier(adapters.verifier, lists, adapters.classifier) if lists else adapters.verifier


def _limiter(settings: Settings, limits: dict[str, Limits], adapters: Adapters) -> Limiter:
    store = adapters.store
    return Limiter(
        limits,
        RedisQuota(store) if isinstance(store, RedisStore) else MemoryQuota(),
        local=MemoryQuota(),
        workers=settings.server.workers,
        lease_s=settings.server.deadline_s + _LEASE_SLACK_S,
    )


def _keys(settings: Settings) -> KeyDirectory:
    keys = KeyDirectory(KeyFile(settings.state.dir, settings.keys.pepper))
    if not keys.required:
        _log.warning(
            "no API keys: loopback only, every caller is the tenant `local`; `thinktwice keys create` makes the first"
        )
    return keys


def _scorecard(settings: Settings, policies: PolicyDirectory, bill: Bill, files: StateFiles) -> Scorecard:
    def cost_of(policy: str, tokens: Tokens) -> float | None:
        return cost_usd(tokens, price_of(settings.prices, policies.resolve(policy)))

    return Scorecard(cost_of, bill=bill, trained_usd=files.trained_usd)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
