"""The parts of one serving process that routes reach."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from starlette.requests import Request
from starlette.responses import Response

from gateway.dependencies import Dependencies
from gateway.http.drain import Drain
from gateway.http.feedback import Labelling
from gateway.http.groups import GroupRoutes
from gateway.http.passthrough import Passthrough
from gateway.http.policy_routes import PolicyRoutes
from gateway.telemetry.outcomes import Outcomes
from gateway.tenants.key_file import KeyDirectory
from gateway.watcher import Watcher

ChatEndpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Runtime:
    """One running gateway. `started_at` is Unix time in seconds."""

    deps: Dependencies
    chat: ChatEndpoint
    passthrough: Passthrough
    labelling: Labelling
    groups: GroupRoutes
    policies: PolicyRoutes
    outcomes: Outcomes
    watcher: Watcher
    keys: KeyDirectory
    started_at: float
    drain: Drain = field(default_factory=Drain)
