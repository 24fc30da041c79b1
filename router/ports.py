"""What the core needs from outside, as small protocols. Adapters turn library errors into `router.errors`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct

from router.domain import CheckResult, CheckSpec, EngineInfo, Prompt, Sampling
from router.enums import Outcome
from router.records import GroupRecord


class Draw(Struct, frozen=True):
    """One upstream call: `n` samples of one prompt at one setting."""

    prompt: Prompt
    sampling: Sampling
    model: str  # the policy's name at the engine
    n: int = 1
    cache_salt: str | None = None
    timeout_s: float = 300.0


class Backend(Protocol):
    """An engine that speaks vLLM's dialect. Raises `BackendError`; closing a stream early cancels its samples."""

    async def complete(self, draw: Draw) -> Mapping[str, Any]:
        """The whole chat completion object, as the engine returned it."""
        ...

    def stream(self, draw: Draw) -> AsyncGenerator[Mapping[str, Any]]:
        """The chunks of a chat completion, as the engine sent them."""
        ...

    async def load_policy(self, name: str, folder: Path) -> None:
        """Serve the LoRA adapter in `folder`, an absolute path at the engine, as `name`; no more if it already is."""
        ...

    async def probe(self) -> EngineInfo:
        """What the engine is and can do."""
        ...

    async def alive(self) -> bool:
        """Whether an engine answers its health check."""
        ...

    @property
    def degraded(self) -> str | None:
        """What is wrong with a part of it while the rest serves, in one line, or None."""
        ...


class Verifier(Protocol):
    """Runs checks on a candidate's text, apart from the serving process. Never raises for a check's own failure."""

    async def verify(self, checks: Sequence[CheckSpec], text: str) -> tuple[CheckResult, ...]:
        """One result a check, in the order given. Raises `VerifierUnavailable` when its queue is full."""
        ...

    def available(self, checks: Sequence[CheckSpec]) -> bool:
        """Whether these checks would run now. Raises `InvalidRequest` for one that the configuration lacks."""
        ...

    def idle(self) -> bool:
        """Whether checks handed in now would start at once."""
        ...

    @property
    def down(self) -> tuple[str, ...]:
        """The parts of it that do not work while the rest does: `verifier`, `sandbox`."""
        ...


class Tool(Protocol):
    """A server-side tool. The caller bounds its time by cancelling it."""

    async def call(self, arguments: Mapping[str, Any]) -> str:
        """What the model is told. Arguments are any JSON object. Raises `ToolError`."""
        ...


class Classifier(Protocol):
    """Judges whether a text may pass. Never raises for its own failure: that is an error or a timeout."""

    async def judge(self, text: str) -> Outcome:
        """`FAIL` when it objects, `PASS` when it does not, `ERROR` or `TIMEOUT` when it does not say."""
        ...


class Store(Protocol):
    """Named values that expire, shared by the processes that share it. Raises `CacheUnavailable`."""

    async def get(self, name: str) -> bytes | None:
        """The value stored under `name`, or None."""
        ...

    async def put(self, name: str, value: bytes, ttl_s: float) -> None:
        """Store a value for `ttl_s` seconds."""
        ...

    async def add(self, name: str, value: bytes, ttl_s: float) -> bool:
        """Store a value unless there is one; whether it was stored."""
        ...

    async def swap(self, name: str, old: bytes, new: bytes | None, ttl_s: float = 0.0) -> bool:
        """Replace the value, or with None remove it, if it still is `old`; whether it was."""
        ...

    async def remove(self, name: str) -> None:
        """Remove the value, if there is one."""
        ...

    async def alive(self) -> bool:
        """Whether the store answers."""
        ...


class GroupLog(Protocol):
    """Where every scored group goes. Raises `LogUnavailable` when it cannot promise to keep one more."""

    @property
    def healthy(self) -> str | None:
        """What is wrong with it, in one line, or None."""
        ...

    @property
    def queue_length(self) -> int:
        """Groups handed over and not yet on disk."""
        ...

    def admit(self) -> None:
        """Raise `LogUnavailable` now rather than after the tokens are spent."""
        ...

    async def append(self, record: GroupRecord) -> None:
        """Hand one record over; it is on disk within the log's commit interval (at once in `sync` mode)."""
        ...
