"""The composition root: settings to a running gateway. Nothing else constructs an adapter."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

from gateway.adapters.backend_pool import BackendPool
from gateway.adapters.memory_quota import MemoryQuota
from gateway.adapters.memory_store import MemoryStore
from gateway.adapters.moderations import Moderations
from gateway.adapters.notes import NotesIndex
from gateway.adapters.redis_quota import RedisQuota
from gateway.adapters.redis_store import RedisStore
from gateway.adapters.segment_log import SegmentLog
from gateway.adapters.vllm import VllmBackend
from gateway.audits import Audits
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
from gateway.http.runtime import Runtime
from gateway.judge import Judge, JudgingVerifier
from gateway.learning import Learning
from gateway.policies import PolicyDirectory
from gateway.resilience.breaker import Breaker, BreakerState
from gateway.service import AnswerService
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.outcomes import Outcomes
from gateway.telemetry.scorecard import Scorecard
from gateway.tenants.gate import FairGate
from gateway.tenants.key_file import KeyDirectory, KeyFile
from gateway.tenants.limiter import Limiter
from gateway.tenants.metering import MeteredBackend
from gateway.tenants.quota import Limits, limits_of
from gateway.watcher import Watcher
from router.calculator import Calculator
from router.domain import Tokens
from router.enums import ToolName
from router.errors import ConfigError, InvalidRequest
from router.guardrails import Guardrails, PolicyVerifier
from router.heldout import load_salt
from router.log.index import GroupIndex
from router.log.labels import append_label
from router.ports import Tool
from router.python_tool import PythonTool
from router.registry import PolicyRegistry
from router.route import Router, RouterSettings
from router.settings import BackendSection, PolicySection, RedisSection, RouterSection, Settings
from router.verify.measured import measured_rates
from router.verify.registry import CHECK_TYPES
from router.verify.spec import check_profiles, merge
from router.verify.verifier import open_verifier

_LEASE_SLACK_S = 60.0  # a stream may go on past its deadline while its client reads
_FIRST_LOOK_S = 5.0  # an engine that stalls does not keep the gateway from answering its probes

_log = logging.getLogger(__name__)


def check_settings(settings: Settings) -> None:
    """Find what cannot work before anything is started. Raises `ConfigError`, one line with the cure."""
    check_profiles(settings.profiles)
    _check_tools(settings)
    _check_commands(settings)
    _check_guardrails(settings)
    limits = tenant_limits(settings)
    if limits and settings.redis.url is None and settings.server.workers > 1:
        raise ConfigError("limits of tenants are shared between workers through Redis: set [redis] url, or one worker")
    _check_value(settings)
    if not settings.prices and any(each.nanos_per_day is not None for each in limits.values()):
        raise ConfigError("usd_per_day needs a price table: add [prices.MODEL], or use tokens_per_day")
    try:
        settings.state.dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"the state directory {settings.state.dir} cannot be made ({error.strerror}): set [state] dir"
        ) from error


def _check_commands(settings: Settings) -> None:
    for name, profile in settings.profiles.items():
        for check in profile.checks:
            if check.get("type") == "command" and check.get("name") not in settings.sandbox.commands:
                raise ConfigError(f"profile {name}: no command {check.get('name')!r}: add [sandbox.commands.NAME]")


def _check_value(settings: Settings) -> None:
    if settings.router.usd_per_solve is not None and not settings.prices:
        raise ConfigError("usd_per_solve needs a price table: add [prices.MODEL], or use tokens_per_solve")
    if settings.router.usd_per_solve is not None and settings.router.tokens_per_solve is not None:
        raise ConfigError("usd_per_solve and tokens_per_solve say the same: set one of them")


def _check_tools(settings: Settings) -> None:
    for name, profile in settings.profiles.items():
        if ToolName.PYTHON in profile.tools and not settings.sandbox.tiers:
            raise ConfigError(f"profile {name}: the tool python needs the sandbox: set [sandbox] backend")
        if ToolName.SEARCH_NOTES in profile.tools and settings.tools.search_notes is None:
            raise ConfigError(f"profile {name}: the tool search_notes needs a folder: set [tools.search_notes] dir")


@asynccontextmanager
async def open_runtime(settings: Settings) -> AsyncIterator[Runtime]:
    """A running gateway; closes in reverse order, the log last but for the workers it does not need."""
    async with AsyncExitStack() as stack:
        keys, limits = _keys(settings), tenant_limits(settings)
        metrics = Metrics(verifiers=CHECK_TYPES)
        metrics.set_measured(measured_rates())
        log = SegmentLog.open(settings.log, on_commit=metrics.observe_fsync)
        stack.push_async_callback(log.close)
        store = _store(settings.redis, metrics)
        stack.push_async_callback(store.close)
        verifier = await stack.enter_async_context(open_verifier(settings.verify, settings.sandbox))
        classifier = _classifier(settings.policy)
        if classifier is not None:
            stack.push_async_callback(classifier.close)
        backend = await stack.enter_async_context(
            BackendPool([_engine(url, settings.backend) for url in settings.backend.urls], metrics)
        )
        registry = PolicyRegistry(settings.state.dir)
        policies = PolicyDirectory(registry, backend, settings.backend.model)
        scorecard = _scorecard(settings, policies)
        tools: dict[str, Tool] = {ToolName.CALCULATOR: Calculator(), ToolName.PYTHON: PythonTool(verifier.sandbox)}
        if settings.tools.search_notes is not None:
            notes = tools[ToolName.SEARCH_NOTES] = NotesIndex(settings.tools.search_notes.dir)
            stack.push_async_callback(notes.close)
            await notes.open()
        metered = MeteredBackend(backend) if any(each.budgeted for each in limits.values()) else backend
        model = settings.judge.model
        judge = None if model is None else Judge(metered, model, metrics, lambda: deps.engine)
        guarded = PolicyVerifier(verifier, settings.policy.lists, classifier) if settings.policy.lists else verifier
        note = partial(append_label, settings.log.dir)
        audits = Audits(verifier, metrics, note, settings.verify.audit_share)
        deps = Dependencies(
            backend=metered,
            verifier=JudgingVerifier(guarded, judge),
            guardrails=Guardrails(settings.policy.lists, settings.verify.timeout_s),
            audits=audits,
            tools=tools,
            store=store,
            log=log,
            policies=policies,
            router=Router(router_settings(settings.router)),
            metrics=metrics,
            scorecard=scorecard,
            prices=settings.prices,
            deadline_s=settings.server.deadline_s,
            heldout_share=settings.heldout.share,
            salt=load_salt(settings.state.dir),
            caching=settings.redis,
            shed_inflight=settings.server.shed_inflight,
            in_flight=lambda: backend.in_flight,
        )
        limiter = Limiter(
            limits,
            RedisQuota(store) if isinstance(store, RedisStore) else MemoryQuota(),
            local=MemoryQuota(),
            workers=settings.server.workers,
            lease_s=settings.server.deadline_s + _LEASE_SLACK_S,
        )
        gate = FairGate(settings.server.max_inflight, settings.server.max_queued, metrics.set_queued)
        admission = Admission(limiter, gate)
        labelling = Labelling(deps, admission, settings)
        learning = Learning(settings.state.dir, settings.router, settings.prices)
        cache_name = "redis" if settings.redis.url else "memory"
        watcher = Watcher(deps, keys, limiter, cache_name=cache_name, learning=learning)
        with suppress(TimeoutError):
            await asyncio.wait_for(watcher.look(), _FIRST_LOOK_S)
        service = AnswerService(deps)
        judging = [] if judge is None else [judge.run()]
        for background in (watcher.run(), service.rechecks.run(), audits.run(), *judging):
            stack.push_async_callback(_cancelled, asyncio.create_task(background))
        yield Runtime(
            deps=deps,
            chat=ChatRoute(service, deps, admission, Idempotency.of(deps), settings),
            passthrough=Passthrough(backend, deps, admission, settings),
            labelling=labelling,
            groups=GroupRoutes(labelling, settings),
            policies=PolicyRoutes(registry, policies),
            outcomes=Outcomes(GroupIndex(settings.log.dir)),
            watcher=watcher,
            keys=keys,
            started_at=time.time(),
            drain=Drain(settings.server.drain_s),
        )


def _check_guardrails(settings: Settings) -> None:
    """Raise `ConfigError` for lists that cannot be used, and for profiles that name others."""
    guardrails = Guardrails(settings.policy.lists)
    guardrails.check()
    if settings.policy.classifier_url is None and any(each.classifier for each in settings.policy.lists.values()):
        raise ConfigError("a policy list asks the classifier, and there is none: set [policy] classifier_url")
    for name in settings.profiles:
        try:
            guardrails.applied(merge({"profile": name}, None, settings.profiles, None, settings.verify.timeout_s))
        except InvalidRequest as error:
            raise ConfigError(f"profile {name}: {error}") from error


def _classifier(section: PolicySection) -> Moderations | None:
    return None if section.classifier_url is None else Moderations(section.classifier_url, section)


def router_settings(section: RouterSection) -> RouterSettings:
    """The section as the router reads it."""
    return RouterSettings(
        threshold=section.difficulty_threshold,
        quorum=section.quorum,
        max_samples=section.max_samples,
        audit_share=section.audit_share,
        explore_share=section.explore_share,
    )


def _engine(url: str, section: BackendSection) -> VllmBackend:
    return VllmBackend(url, api_key=section.api_key, connect_timeout_s=section.connect_timeout_s)


def _store(section: RedisSection, metrics: Metrics) -> RedisStore | MemoryStore:
    if section.url is None:
        _log.warning(
            "no [redis] url: verified answers are cached in this process only, at most %d", section.memory_entries
        )
        return MemoryStore(section.memory_entries)

    def changed(state: BreakerState) -> None:
        metrics.set_breaker(state)
        if state is not BreakerState.HALF_OPEN:
            _log.warning("Redis %s", "answers again" if state is BreakerState.CLOSED else "fails: serving without it")

    return RedisStore(section.url, timeout_s=section.timeout_s, breaker=Breaker(on_change=changed))


def tenant_limits(settings: Settings) -> dict[str, Limits]:
    """The limits of every tenant that has any. Raises `ConfigError`."""
    limits = {name: limits_of(name, section) for name, section in settings.tenants.items()}
    return {name: each for name, each in limits.items() if each is not None}


def _keys(settings: Settings) -> KeyDirectory:
    keys = KeyDirectory(KeyFile(settings.state.dir, settings.keys.pepper))
    if not keys.required:
        _log.warning(
            "no API keys: loopback only, every caller is the tenant `local`; `thinktwice keys create` makes the first"
        )
    return keys


def _scorecard(settings: Settings, policies: PolicyDirectory) -> Scorecard:
    def cost_of(policy: str, tokens: Tokens) -> float | None:
        return cost_usd(tokens, price_of(settings.prices, policies.resolve(policy)))

    return Scorecard(cost_of)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
