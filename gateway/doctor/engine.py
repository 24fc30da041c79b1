"""The engines: whether they answer, what their answers carry, and how they were started."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC
from email.utils import parsedate_to_datetime

from gateway.adapters.vllm import VllmBackend
from gateway.doctor.clock import compare_clock
from gateway.doctor.finding import Finding, failed, good, warning
from router.errors import BackendError
from router.settings import BackendSection, EscalationSection

_TIMEOUT_S = 5.0
_CACHE_CONFIG = b"vllm:cache_config_info{"
_LOAD_ROUTE = b"/v1/load_lora_adapter"
_DATE_RESOLUTION_S = 1.0  # of an HTTP `Date`


async def examine_engine(url: str, section: BackendSection) -> AsyncIterator[Finding]:
    """One engine, asked over HTTP; its probe draws two tokens."""
    async with VllmBackend(url, api_key=section.api_key, connect_timeout_s=section.connect_timeout_s) as engine:
        try:
            info = await engine.probe()
        except BackendError as error:
            yield failed("engine", str(error), "start it, or set [backend] url (and api_key)")
            return
        served = ", ".join(info.models) or "no model"
        yield good("engine", f"{info.engine} {info.version} at {url} serves {served}")
        if section.model is not None and section.model not in info.models:
            yield failed("model", f"it does not serve {section.model}", f"set [backend] model to one of: {served}")
        if info.missing:
            yield warning(
                "training rows", "none: " + "; ".join(info.missing), "restart the engine so; see docs/vllm.md"
            )
        else:
            yield good("training rows", "token ids and processed log-probabilities")
        yield await _adapters(engine)
        if (finding := await _prefix_cache(engine)) is not None:
            yield finding
        if (finding := await _clock(engine, url)) is not None:
            yield finding


async def examine_larger(url: str, section: EscalationSection) -> Finding:
    """The engine of the larger model; without it requests are answered, and nothing is escalated."""
    async with VllmBackend(url, api_key=section.api_key, connect_timeout_s=section.connect_timeout_s) as engine:
        try:
            info = await engine.probe()
        except BackendError as error:
            return warning("larger model", f"nothing is escalated: {error}", "start it, or remove [escalation]")
    served = ", ".join(info.models) or "no model"
    if section.model not in info.models:
        cure = f"set [escalation] model to one of: {served}"
        return failed("larger model", f"{url} does not serve {section.model}", cure)
    return good("larger model", f"{url} serves {section.model}")


async def _adapters(engine: VllmBackend) -> Finding:
    """Whether policies can be loaded at run time: vLLM has the route only where it was allowed."""
    cure = "start vLLM with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"
    routes = await _get(engine, "/openapi.json")
    if routes is None:
        return warning("policies", "the engine does not list its routes, so this could not be seen", cure)
    if _LOAD_ROUTE not in routes:
        return warning("policies", "no adapter can be loaded: promotions would not reach serving", cure)
    return good("policies", "adapters can be loaded while it runs")


async def _prefix_cache(engine: VllmBackend) -> Finding | None:
    """Whether vLLM keeps prefixes, by its own metrics; None where it does not say."""
    config = next(
        (line for line in (await _get(engine, "/metrics") or b"").splitlines() if _CACHE_CONFIG in line), None
    )
    if config is None:
        return None
    if b'enable_prefix_caching="True"' in config:
        return good("prefix cache", "on")
    cure = "start vLLM with --enable-prefix-caching: the samples of a group share their prompt"
    return warning("prefix cache", "off", cure)


async def _clock(engine: VllmBackend, url: str) -> Finding | None:
    before = time.time()
    try:
        async with engine.request("GET", "/health", None, _TIMEOUT_S) as response:
            date = parsedate_to_datetime(response.headers.get("Date", ""))
    except (BackendError, ValueError):
        return None
    theirs = date.replace(tzinfo=date.tzinfo or UTC).timestamp()
    return compare_clock(url, theirs, before - _DATE_RESOLUTION_S, time.time())


async def _get(engine: VllmBackend, path: str) -> bytes | None:
    """The body of one of the engine's own routes, or None."""
    try:
        async with engine.request("GET", path, None, _TIMEOUT_S) as response:
            return await response.read()
    except BackendError:
        return None
