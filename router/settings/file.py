"""The whole configuration, read from its file, the environment and the command line."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from router.errors import ConfigError
from router.settings.answering import (
    HeldoutSection,
    JudgeSection,
    ProfileSection,
    RouterSection,
    SandboxSection,
    ToolsSection,
    VerifySection,
)
from router.settings.guarding import PolicySection
from router.settings.serving import (
    BackendSection,
    EscalationSection,
    LogSection,
    RedisSection,
    ServerSection,
    ShadowSection,
    StateSection,
    TracingSection,
)
from router.settings.tenancy import CostsSection, KeysSection, PriceSection, TenantSection
from router.settings.training import TrainingSection

ENV_PREFIX = "THINKTWICE_"
DEFAULT_FILE = Path("thinktwice.toml")


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
    escalation: EscalationSection | None = None
    shadow: ShadowSection | None = None
    heldout: HeldoutSection = HeldoutSection()
    verify: VerifySection = VerifySection()
    judge: JudgeSection = JudgeSection()
    sandbox: SandboxSection = SandboxSection()
    policy: PolicySection = PolicySection()
    training: TrainingSection = TrainingSection()
    tools: ToolsSection = ToolsSection()
    profiles: dict[str, ProfileSection] = {}
    prices: dict[str, PriceSection] = {}
    costs: CostsSection = CostsSection()
    tracing: TracingSection = TracingSection()
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
