"""The adapters of one serving process, opened in order and closed in reverse."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass

from gateway.adapters.backend_pool import BackendPool
from gateway.adapters.memory_store import MemoryStore
from gateway.adapters.moderations import Moderations
from gateway.adapters.notes import NotesIndex
from gateway.adapters.redis_store import RedisStore
from gateway.adapters.segment_log import SegmentLog
from gateway.adapters.vllm import VllmBackend
from gateway.larger import Unobserved
from gateway.resilience.breaker import Breaker, BreakerState
from gateway.telemetry.metrics import Metrics
from router.calculator import Calculator
from router.enums import ToolName
from router.ports import Tool
from router.python_tool import PythonTool
from router.sandbox.sandbox import Sandbox
from router.settings import EnginesSection, PolicySection, RedisSection, Settings, ToolsSection
from router.verify.verifier import IsolatedVerifier, open_verifier

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Adapters:
    """What reaches outside the process: the disk, Redis, worker processes and sandboxes, engines."""

    log: SegmentLog
    store: RedisStore | MemoryStore
    verifier: IsolatedVerifier
    classifier: Moderations | None
    backend: BackendPool
    larger: BackendPool | None
    tools: dict[str, Tool]


async def open_adapters(stack: AsyncExitStack, settings: Settings, metrics: Metrics) -> Adapters:
    """All of them, closed with `stack`, the log last. Raises `ThinkTwiceError` when one cannot be opened."""
    log = SegmentLog.open(settings.log, on_commit=metrics.observe_fsync)
    stack.push_async_callback(log.close)
    store = _store(settings.redis, metrics)
    stack.push_async_callback(store.close)
    verifier = await stack.enter_async_context(open_verifier(settings.verify, settings.sandbox))
    classifier = _classifier(settings.policy)
    if classifier is not None:
        stack.push_async_callback(classifier.close)
    engines = [_engine(url, settings.backend) for url in settings.backend.urls]
    backend = await stack.enter_async_context(BackendPool(engines, metrics))
    larger = None
    if settings.escalation is not None:
        engines = [_engine(url, settings.escalation) for url in settings.escalation.urls]
        larger = await stack.enter_async_context(BackendPool(engines, Unobserved()))
    tools = await _tools(stack, settings.tools, verifier.sandbox)
    return Adapters(log, store, verifier, classifier, backend, larger, tools)


async def _tools(stack: AsyncExitStack, section: ToolsSection, sandbox: Sandbox) -> dict[str, Tool]:
    tools: dict[str, Tool] = {ToolName.CALCULATOR: Calculator(), ToolName.PYTHON: PythonTool(sandbox)}
    if section.search_notes is not None:
        notes = tools[ToolName.SEARCH_NOTES] = NotesIndex(section.search_notes.dir)
        stack.push_async_callback(notes.close)
        await notes.open()
    return tools


def _classifier(section: PolicySection) -> Moderations | None:
    return None if section.classifier_url is None else Moderations(section.classifier_url, section)


def _engine(url: str, section: EnginesSection) -> VllmBackend:
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
