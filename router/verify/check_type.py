"""What a check type is: a name, a class, a version, its parameters, an admission and a run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import msgspec

from router.enums import CheckClass, Outcome

if TYPE_CHECKING:  # the workers import this module, and have no use for asyncio
    from router.sandbox.sandbox import Job

Params = TypeVar("Params", bound=msgspec.Struct)


class Judgement(NamedTuple):
    """What a check found. `score` is in [0, 1], `None` unless the outcome is a pass that earns credit, or a fail.

    `detail` is one short clause in fixed words: it never quotes the reference or the answer. `key` is what the answer
    votes by, of a check that finds one; `coverage` the share of the steps in [0, 1] that a process check could read,
    `None` where there are none.
    """

    outcome: Outcome
    score: float | None
    detail: str = ""
    key: str | None = None
    coverage: float | None = None


PASSED = Judgement(Outcome.PASS, 1.0)


def failed(detail: str, score: float = 0.0) -> Judgement:
    """The candidate was judged and found wanting."""
    return Judgement(Outcome.FAIL, score, detail)


def undecided(detail: str) -> Judgement:
    """We could not judge: the candidate is neither right nor wrong."""
    return Judgement(Outcome.ERROR, None, detail)


@dataclass(frozen=True, slots=True)
class Admitted(Generic[Params]):
    """What admission needs of a type of check.

    `admit` runs in the serving process: cheap (< 50 ms); it raises `InvalidRequest`, `param` being the field at fault.
    """

    name: str
    klass: CheckClass
    version: str  # changes whenever a verdict could; it travels to the cache key, the response and the log
    params: type[Params]
    admit: Callable[[Params], None]


@dataclass(frozen=True, slots=True)
class CheckType(Admitted[Params]):
    """A type whose `run` runs in a worker only: pure, synchronous, free to hang or to die."""

    run: Callable[[Params, str], Judgement]


@dataclass(frozen=True, slots=True)
class SandboxedCheck(Admitted[Params]):
    """A type that runs code of the candidate or the tenant.

    `run` is a coroutine of the serving process: it may only ask the sandboxes of its job and compare plain values. It
    has `timeout_s` from the moment they are open, and raises `SandboxUnavailable` when they cannot be.
    """

    run: Callable[[Params, str, Job, float], Awaitable[Judgement]]
