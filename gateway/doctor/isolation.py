"""The sandbox: which tier holds on this machine, found by the same canaries that guard it while it serves."""

from __future__ import annotations

from gateway.doctor.finding import Finding, failed, good, warning
from router.enums import Tier
from router.sandbox.choice import open_sandbox
from router.settings import Settings


async def examine_sandbox(settings: Settings) -> Finding:
    """Start the configured sandbox, lay out its bait, end it."""
    section = settings.sandbox
    if not section.tiers:
        detail = "off: checks that run code are refused with 503"
        return warning("sandbox", detail, "set [sandbox] backend to auto")
    async with open_sandbox(section.tiers, warm=0, jobs=1, queue=1) as sandbox:
        if sandbox.tier is Tier.BWRAP or (sandbox.tier is not None and section.backend != "auto"):
            return good("sandbox", f"{sandbox.tier.value} holds")
        if sandbox.tier is not None:
            cure = "install bubblewrap and allow user namespaces for the stronger tier"
            return warning("sandbox", f"{sandbox.tier.value} holds, bubblewrap does not", cure)
        cure = "install bubblewrap, or run on a kernel with Landlock (5.13); docs/sandbox.md"
        return failed("sandbox", sandbox.fault or "none holds", cure)
