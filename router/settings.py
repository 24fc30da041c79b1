"""The configuration: one `thinktwice.toml`, every value overridable by `THINKTWICE_SECTION__KEY`, unknown keys refused.

Both processes read the same file, so its schema lives here. Nothing else reads the environment.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from router.domain import MAX_SAMPLES
from router.engine_urls import engine_urls
from router.enums import OnFailure
from router.errors import ConfigError

ENV_PREFIX = "THINKTWICE_"
DEFAULT_FILE = Path("thinktwice.toml")
LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class Section(BaseModel):
    """A table of the configuration file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ServerSection(Section):
    """The HTTP server."""

    host: str = Field("127.0.0.1", description="Address to bind. Without API keys only a loopback address is allowed.")
    port: int = Field(8000, ge=0, le=65535, description="TCP port; 0 takes a free one.")
    workers: int = Field(1, ge=1, le=64, description="Serving processes, one per core.")
    max_body_bytes: int = Field(1024 * 1024, ge=1024, description="Largest request body accepted, in bytes.")
    deadline_s: float = Field(300.0, gt=0, description="Longest time one request may take, in seconds.")
    drain_s: float = Field(10.0, ge=0, description="Longest wait for running requests at a stop, in seconds.")
    shed_inflight: int = Field(512, ge=1, description="Samples in flight in a process above which votes get smaller.")
    max_inflight: int = Field(512, ge=1, description="Requests served at a time by one process; others wait, fairly.")
    max_queued: int = Field(1024, ge=0, description="Requests that may wait before others are refused.")
    keepalive_s: float = Field(10.0, gt=0, description="Interval of SSE comments while a streamed answer is checked.")


class BackendSection(Section):
    """The engines that generate: one, or several that serve the same model."""

    url: str = Field(
        "http://127.0.0.1:8100",
        description="Base URL of a vLLM server, with or without `/v1`; several as a list, or separated by commas.",
    )
    model: str | None = Field(None, description="Model name at the engine; by default the first one it serves.")
    api_key: str | None = Field(None, description="Bearer token for the engine.")
    allow_fields: tuple[str, ...] = Field((), description="Further request fields to accept and forward.")
    forward_reasoning_effort: bool = Field(False, description="Send `reasoning_effort` on to the model.")
    connect_timeout_s: float = Field(5.0, gt=0, description="Longest time to reach the engine, in seconds.")

    @property
    def urls(self) -> tuple[str, ...]:
        """The base URL of each engine, in the order given."""
        return tuple(self.url.split(","))

    @field_validator("url", mode="before")
    @classmethod
    def _each_url(cls, given: Any) -> str:
        return ",".join(engine_urls(given))


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


class StateSection(Section):
    """The state directory: policies, models, salts."""

    dir: Path = Field(Path("state"), description="Directory of policies, the champion alias and converted models.")


class KeysSection(Section):
    """API keys, which `thinktwice keys` makes in the state directory."""

    pepper: str | None = Field(
        None,
        min_length=32,
        description="Secret under which keys are hashed; by default one made in the state directory.",
    )


class RouterSection(Section):
    """How much compute a prompt gets."""

    audit_share: float = Field(0.02, ge=0, le=1, description="Share of traffic given a full group.")
    difficulty_threshold: float = Field(0.5, ge=0, le=1, description="Difficulty from which a prompt is voted.")
    quorum: float = Field(0.9, gt=0.5, lt=1, description="Confidence at which a vote without an oracle is settled.")
    max_samples: int = Field(MAX_SAMPLES, ge=1, le=MAX_SAMPLES, description="Largest group drawn.")


class HeldoutSection(Section):
    """Prompts kept out of training."""

    share: float = Field(0.05, ge=0, lt=1, description="Share of prompts, by salted hash, that are never trained on.")


class VerifySection(Section):
    """The verification workers."""

    workers: int = Field(2, ge=1, le=64, description="Worker processes that run checks.")
    timeout_s: float = Field(3.0, gt=0, le=10, description="Default deadline of one check, in seconds.")
    queue: int = Field(64, ge=1, description="Candidates that may wait for a worker before requests are refused.")


class SampleBounds(Section):
    """Bounds of a group."""

    min: int = Field(1, ge=1, le=MAX_SAMPLES)
    max: int = Field(MAX_SAMPLES, ge=1, le=MAX_SAMPLES)


class ProfileSection(Section):
    """A named, versioned bundle of checks that a request selects by name."""

    version: int = Field(1, ge=1, description="Version; clients may pin it as `name@version`.")
    checks: tuple[dict[str, Any], ...] = Field((), description="Checks, as in the request's `verification.checks`.")
    samples: SampleBounds | None = Field(None, description="Bounds of the group.")
    on_failure: OnFailure | None = Field(None, description="What happens to an answer that did not verify.")
    review: Literal["never", "unverified", "always"] = Field("never", description="Which answers a person reviews.")


class PriceSection(Section):
    """Price of a model's tokens, in US dollars per million."""

    input: float = Field(ge=0, description="Dollars per million prompt tokens.")
    output: float = Field(ge=0, description="Dollars per million completion tokens.")
    cached_input: float | None = Field(None, ge=0, description="Dollars per million cached prompt tokens.")


class TenantSection(Section):
    """What a tenant allows, and what it may use; a limit that is not set does not exist."""

    train_consent: bool | None = Field(
        None, description="Whether this tenant's groups may train a policy; by default only those of `local`."
    )
    requests_per_minute: int | None = Field(None, ge=1, description="Requests a minute, one each equal interval.")
    burst: int | None = Field(None, ge=1, description="Requests that may come at once; by default a minute's.")
    max_concurrency: int | None = Field(None, ge=1, description="Requests in flight, those that wait included.")
    tokens_per_day: int | None = Field(None, ge=1, description="Tokens of all samples, prompts included, a day of UTC.")
    usd_per_day: float | None = Field(None, gt=0, le=1e6, description="US dollars, by the price table, a day of UTC.")


class TrainingSection(Section):
    """How a policy is trained. Ratios are of the trained policy's probability of a token to the logged one."""

    model: Path | None = Field(None, description="Folder of the base model; by default the only one in `models`.")
    learning_rate: float = Field(5e-5, gt=0, le=1e-2, description="Constant learning rate of AdamW.")
    rank: int = Field(16, ge=1, le=512, description="Rank of the LoRA adapter; vLLM's `--max-lora-rank` bounds it.")
    lora_targets: tuple[str, ...] = Field(LORA_TARGETS, min_length=1, description="Linear layers that are adapted.")
    epochs: int = Field(1, ge=1, le=2, description="Passes over the data; every pass moves further from the log.")
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of the adapter's start and of the order of the groups.")
    max_groups: int | None = Field(None, ge=1, description="Train on at most this many groups, the newest.")
    completions_per_step: int = Field(64, ge=1, description="Completions of one optimizer step.")
    micro_batch_tokens: int = Field(512, ge=1, description="Padded tokens of one forward pass; bounds the memory.")
    activation_checkpointing: bool = Field(False, description="Recompute activations: slower, far less memory.")
    clip_low: float = Field(0.8, gt=0, lt=1, description="Ratio below which a bad token gets no further gradient.")
    clip_high: float = Field(1.28, gt=1, description="Ratio above which a good token gets no further gradient.")
    dual_clip: float = Field(4.0, gt=1, description="Ratio above which a bad token gets no further gradient.")
    off_policy_nats: float = Field(
        0.5, gt=0, description="Bad completions whose mean log-probability fell by more than this are left out."
    )
    max_grad_norm: float = Field(1.0, gt=0, description="Norm to which the gradient is clipped.")
    stop_kl: float = Field(0.05, gt=0, description="Mean KL from the log, in nats a token, that ends the run.")
    stop_clip_fraction: float = Field(0.3, gt=0, le=1, description="Share of clipped tokens that ends the run.")
    identity_kl: float = Field(
        0.01, gt=0, description="Mean KL, in nats a token, from which logged rows are not of the policy they name."
    )
    due_groups: int = Field(200, ge=1, description="New trainable groups from which `train --if-due` trains.")
    eval_data: Path | None = Field(None, description="JSON Lines of held-out questions, which `--if-due` needs.")
    eval_max_tokens: int | None = Field(None, ge=1, description="Longest completion of an evaluation, in tokens.")
    gateway_url: str = Field("http://127.0.0.1:8000", description="Gateway that `--if-due` evaluates through.")
    alpha: float = Field(0.05, gt=0, lt=0.5, description="One-sided level of the test that promotes.")


class Settings(BaseSettings):
    """The whole configuration."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    server: ServerSection = ServerSection()
    backend: BackendSection = BackendSection()
    redis: RedisSection = RedisSection()
    log: LogSection = LogSection()
    state: StateSection = StateSection()
    keys: KeysSection = KeysSection()
    router: RouterSection = RouterSection()
    heldout: HeldoutSection = HeldoutSection()
    verify: VerifySection = VerifySection()
    training: TrainingSection = TrainingSection()
    profiles: dict[str, ProfileSection] = {}
    prices: dict[str, PriceSection] = {}
    tenants: dict[str, TenantSection] = {}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Command line over environment over file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def load_settings(file: Path | None = None, overrides: dict[str, dict[str, Any]] | None = None) -> Settings:
    """Read the configuration: `overrides` (command line) over environment over `file`.

    Without `file`, `./thinktwice.toml` is read when it is there. Raises `ConfigError`, naming the key, for anything
    that cannot be used.
    """
    if file is not None and not file.is_file():
        raise ConfigError(f"configuration file {file} does not exist: give an existing file or leave --config out")
    path = file or DEFAULT_FILE
    _refuse_unknown_environment()

    class FileSettings(Settings):
        model_config = SettingsConfigDict(toml_file=path)

    try:
        return FileSettings(**(overrides or {}))  # type: ignore[arg-type]  # tables, validated into sections
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except SettingsError as error:
        given = ", ".join(sorted(name for name in os.environ if name.startswith(ENV_PREFIX)))
        raise ConfigError(f"{error}: a list or a table is given as JSON; variables that are set: {given}") from error
    except ValidationError as error:
        raise ConfigError("; ".join(_describe(detail) for detail in error.errors())) from error


def _describe(detail: Any) -> str:
    where = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"unknown configuration key {where}: remove it or correct its name"
    return f"configuration key {where}: {detail['msg']}"


def _refuse_unknown_environment() -> None:
    for name in os.environ:
        if name.startswith(ENV_PREFIX) and "__" in name:
            section = name.removeprefix(ENV_PREFIX).split("__")[0].lower()
            if section not in Settings.model_fields:
                known = ", ".join(sorted(Settings.model_fields))
                raise ConfigError(
                    f"environment variable {name} names no section of the configuration; sections: {known}"
                )
