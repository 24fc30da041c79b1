"""Sections of the serving process: its server, engines, cache, group log and state."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from router.engine_urls import engine_urls
from router.settings.section import Section


class TracingSection(Section):
    """OpenTelemetry traces; they need the extra `otel`."""

    otlp_url: str | None = Field(
        None,
        pattern=r"^https?://",
        description="Where spans go, over OTLP/HTTP, such as http://127.0.0.1:4318/v1/traces; by default nowhere.",
    )


class ServerSection(Section):
    """The HTTP server."""

    host: str = Field("127.0.0.1", description="Address to bind. Without API keys only a loopback address is allowed.")
    port: int = Field(8000, ge=0, le=65535, description="TCP port; 0 takes a free one.")
    workers: int = Field(1, ge=1, le=64, description="Serving processes, one per core.")
    metrics_port: int | None = Field(
        None,
        ge=1,
        le=65472,
        description="With several workers, a port of the first one's own, beside the shared one; the next one's is one "
        "higher. A scrape of the shared port meets any of them.",
    )
    max_body_bytes: int = Field(1024 * 1024, ge=1024, description="Largest request body accepted, in bytes.")
    deadline_s: float = Field(300.0, gt=0, description="Longest time one request may take, in seconds.")
    drain_s: float = Field(10.0, ge=0, description="Longest wait for running requests at a stop, in seconds.")
    shed_inflight: int = Field(512, ge=1, description="Samples in flight in a process above which votes get smaller.")
    max_inflight: int = Field(512, ge=1, description="Requests served at a time by one process; others wait, fairly.")
    max_queued: int = Field(1024, ge=0, description="Requests that may wait before others are refused.")
    max_connections: int = Field(2048, ge=1, description="Open connections of one process; more are closed (503).")
    slow_client_s: float = Field(
        30.0, gt=0, description="A client slower than 1 KiB/s over this time, sending or reading, is cut off, seconds."
    )
    keepalive_s: float = Field(10.0, gt=0, description="Interval of SSE comments while a streamed answer is checked.")


_URL = "Base URL of a vLLM server, with or without `/v1`; several as a list, or separated by commas."


class EnginesSection(Section):
    """How engines that serve one model are reached."""

    url: str = Field(description=_URL)
    api_key: str | None = Field(None, description="Bearer token for the engine.")
    connect_timeout_s: float = Field(5.0, gt=0, description="Longest time to reach the engine, in seconds.")

    @property
    def urls(self) -> tuple[str, ...]:
        """The base URL of each engine, in the order given."""
        return tuple(self.url.split(","))

    @field_validator("url", mode="before")
    @classmethod
    def _each_url(cls, given: Any) -> str:
        return ",".join(engine_urls(given))


class BackendSection(EnginesSection):
    """The engines that generate: one, or several that serve the same model."""

    url: str = Field("http://127.0.0.1:8100", description=_URL)
    model: str | None = Field(None, description="Model name at the engine; by default the first one it serves.")
    allow_fields: tuple[str, ...] = Field((), description="Further request fields to accept and forward.")
    forward_reasoning_effort: bool = Field(False, description="Send `reasoning_effort` on to the model.")


class ShadowSection(Section):
    """A candidate that answers some of the champion's prompts beside it, to be checked, logged and counted."""

    policy: str = Field(description="The registered policy; its answers are never served or cached.")
    share: float = Field(0.05, gt=0, le=1, description="Share of the prompts for the champion that it answers too.")


class EscalationSection(EnginesSection):
    """A second, larger model that draws one last sample where the first one's did not settle it; off by default."""

    model: str = Field(min_length=1, description="Its name at its engine; `[prices.MODEL]` is its price.")
    timeout_s: float = Field(60.0, gt=0, description="Longest time for its sample, in seconds.")
    solve_rate: float = Field(
        0.3, gt=0, lt=1, description="Chance that it solves what the first model did not, until the log tells."
    )


class RedisSection(Section):
    """The shared answer cache."""

    url: str | None = Field(None, description="Redis URL; without one a bounded in-process cache is used.")
    timeout_s: float = Field(0.2, gt=0, description="Longest wait for Redis before serving without it, in seconds.")
    ttl_s: int = Field(7 * 86400, ge=1, description="Lifetime of a verified answer, in seconds (jittered by 10 %).")
    lock_s: float = Field(
        10.0, gt=0, description="Longest wait for another process that computes the same answer, in seconds."
    )
    recheck_share: float = Field(
        0.01, ge=0, le=1, description="Share of hits that are checked again in the background."
    )
    memory_entries: int = Field(2000, ge=1, description="Entries of the in-process cache used without Redis.")


class RedactSection(Section):
    """One thing that is not written to the group log."""

    pattern: str = Field(min_length=1, description="RE2 pattern.")
    replacement: str = Field("[redacted]", description="What stands in its place, literally.")


class LogSection(Section):
    """The group log."""

    dir: Path = Field(Path("state/log"), description="Directory of the log segments.")
    mode: Literal["async", "sync"] = Field(
        "async", description="`async`: group commit, at most `commit_ms` of groups at risk; `sync`: answer after fsync."
    )
    commit_ms: int = Field(50, ge=1, description="Longest time a group waits for its group commit, in milliseconds.")
    segment_bytes: int = Field(64 * 1024 * 1024, ge=4096, description="Size at which a segment is sealed, in bytes.")
    segment_s: float = Field(600.0, gt=0, description="Age at which a segment is sealed, in seconds.")
    queue_groups: int = Field(2000, ge=1, description="Groups that may wait for the disk before requests are refused.")
    min_free_bytes: int = Field(64 * 1024 * 1024, ge=0, description="Free disk space below which requests are refused.")
    redact: tuple[RedactSection, ...] = Field(
        (), max_length=100, description="What is replaced in texts before they are written: `pattern`, `replacement`."
    )
    keep_days: float | None = Field(
        None, gt=0, description="Age from which `log compact` removes groups and labels, in days; by default none."
    )


class StateSection(Section):
    """The state directory: policies, models, salts."""

    dir: Path = Field(Path("state"), description="Directory of policies, the champion alias and converted models.")
