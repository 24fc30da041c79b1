"""The configuration: one `thinktwice.toml`, every value overridable by `THINKTWICE_SECTION__KEY`, unknown keys refused.

Both processes read the same file, so its schema lives here. Nothing else reads the environment.
"""

from router.settings.answering import (
    ProfileSection,
    RouterSection,
    SampleBounds,
    SandboxSection,
    ToolsSection,
    VerifySection,
)
from router.settings.file import ENV_PREFIX, Settings, load_settings
from router.settings.guarding import PolicyListSection, PolicySection
from router.settings.section import Section
from router.settings.serving import (
    BackendSection,
    EnginesSection,
    EscalationSection,
    LogSection,
    RedactSection,
    RedisSection,
    ServerSection,
    ShadowSection,
)
from router.settings.tenancy import CostsSection, PriceSection, TenantSection
from router.settings.training import Mode, Objective, TrainingSection

__all__ = [
    "ENV_PREFIX",
    "BackendSection",
    "CostsSection",
    "EnginesSection",
    "EscalationSection",
    "LogSection",
    "Mode",
    "Objective",
    "PolicyListSection",
    "PolicySection",
    "PriceSection",
    "ProfileSection",
    "RedactSection",
    "RedisSection",
    "RouterSection",
    "SampleBounds",
    "SandboxSection",
    "Section",
    "ServerSection",
    "Settings",
    "ShadowSection",
    "TenantSection",
    "ToolsSection",
    "TrainingSection",
    "VerifySection",
    "load_settings",
]
