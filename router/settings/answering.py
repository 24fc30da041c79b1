"""Sections of what an answer gets: routing, checks, profiles, the held-out split."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from router.domain import MAX_SAMPLES
from router.enums import OnFailure, Tier, ToolName
from router.settings.section import Section


class RouterSection(Section):
    """How much compute a prompt gets."""

    audit_share: float = Field(0.02, ge=0, le=1, description="Share of traffic given a full group.")
    explore_share: float = Field(
        0.02, ge=0, le=1, description="Share of traffic near the boundary of a route that is routed at random."
    )
    explore_margin: float = Field(
        0.25, ge=0, le=1, description="Near a price: the next sample's value misses its cost by this share at most."
    )
    difficulty_threshold: float = Field(0.5, ge=0, le=1, description="Difficulty from which a prompt is voted.")
    usd_per_solve: float | None = Field(
        None, gt=0, description="Dollars a solved task is worth: with a calibration, no sample costs more than it adds."
    )
    tokens_per_solve: float | None = Field(
        None, gt=0, description="The same in completion tokens, where there is no price table."
    )
    solve_rate_target: float | None = Field(
        None, gt=0, lt=1, description="Instead: the share of checked prompts to solve; `calibrate` finds its price."
    )
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
    audit_share: float = Field(0.05, ge=0, le=1, description="Share of verified answers that a second verifier reads.")
    rotate: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        {}, description="By check type, the share of requests that its second verifier decides in its place."
    )


class JudgeSection(Section):
    """The model that grades `judge` checks."""

    model: str | None = Field(None, description="Its name at the engine; without one such checks are refused.")


class SearchNotesSection(Section):
    """The documents that `search_notes` searches."""

    dir: Path = Field(description="Folder of .md and .txt files; without one the tool cannot be used.")


class ToolsSection(Section):
    """The server-side tools that profiles may name."""

    search_notes: SearchNotesSection | None = None


class CommandSection(Section):
    """A program of the operator's that a `command` check runs."""

    argv: tuple[str, ...] = Field(min_length=1, description="Command line; the program with its whole path.")
    readable: tuple[str, ...] = Field((), description="Files and folders it reads beside the system's, absolute.")

    @field_validator("argv", "readable")
    @classmethod
    def _absolute(cls, given: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if any(not path.startswith("/") for path in (given[:1] if info.field_name == "argv" else given)):
            raise ValueError("paths must be absolute")
        return given


class SandboxSection(Section):
    """Isolation of the checks that run code: `python_tests`, `python_outputs`, `sql` and `command`."""

    backend: Literal["auto", "bwrap", "landlock", "off"] = Field(
        "auto",
        description="What isolates untrusted code; `auto`: bubblewrap, else Landlock, else such checks are refused.",
    )
    warm: int = Field(2, ge=0, le=64, description="Sandboxes kept ready, about 14 MB each; every one is used once.")
    jobs: int = Field(4, ge=1, le=64, description="Checks in the sandbox at a time, at most 512 MB for each process.")
    queue: int = Field(64, ge=1, description="Checks that may wait for a sandbox before requests are refused.")

    commands: dict[str, CommandSection] = Field({}, description="Programs by name: `[sandbox.commands.NAME]`.")

    @property
    def tiers(self) -> tuple[Tier, ...]:
        """The tiers to try, strongest first."""
        if self.backend == "off":
            return ()
        return tuple(Tier) if self.backend == "auto" else (Tier(self.backend),)


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
    tools: tuple[ToolName, ...] = Field((), description="Server-side tools that its samples may call.")
    max_turns: int = Field(4, ge=2, le=8, description="Model calls that one sample may take with its tools.")
    review: Literal["never", "unverified", "always"] = Field("never", description="Which answers a person reviews.")
