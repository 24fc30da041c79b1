"""What the checks, and their second verifiers, say of texts whose verdict is known."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console
from rich.progress import track

from gateway.bench.truth import Fact
from router.domain import CheckResult, CheckSpec
from router.enums import Outcome
from router.settings import SandboxSection, VerifySection
from router.verify.verifier import IsolatedVerifier, open_verifier
from router.verify.versions import other_version

REFUSED = "refused"
_BATCH = 256  # facts judged at a time: below the pool's queue


@dataclass(frozen=True, slots=True)
class Found:
    """A fact, what was said of it (`refused` when the check was not admitted), and what the second verifier says."""

    fact: Fact
    outcome: str
    second: str | None = None  # None where the check has no second verifier


async def judged(facts: Iterable[Fact], workers: int = os.cpu_count() or 1) -> list[Found]:
    """What is said of each fact, in workers and sandboxes as in serving."""
    ordered = list(facts)
    console = Console(stderr=True)
    found: list[Found] = []
    section = VerifySection(workers=workers, queue=2 * _BATCH)
    async with open_verifier(section, SandboxSection(queue=2 * _BATCH)) as verifier:
        batches = range(0, len(ordered), _BATCH)
        for start in track(batches, "checks", console=console, disable=not console.is_terminal):
            found += await asyncio.gather(*(_judged(verifier, fact) for fact in ordered[start : start + _BATCH]))
    return found


async def _judged(verifier: IsolatedVerifier, fact: Fact) -> Found:
    if fact.spec is None:
        return Found(fact, REFUSED)
    result = await _verified(verifier, fact.spec, fact.text)
    if fact.beside is not None:
        return Found(fact, _alike(result, await _verified(verifier, fact.spec, fact.beside)))
    second = other_version(fact.spec)
    said = None if second is None else (await _verified(verifier, second, fact.text)).outcome
    return Found(fact, result.outcome, said)


async def _verified(verifier: IsolatedVerifier, check: CheckSpec, text: str) -> CheckResult:
    (result,) = await verifier.verify([check], text)
    return result


def _alike(result: CheckResult, other: CheckResult) -> Outcome:
    """`pass` when two programs vote together, `fail` when they vote apart, else why one of them has no vote."""
    for each in (result, other):
        if each.key is None:
            return Outcome.SKIPPED if each.outcome is Outcome.FAIL else each.outcome
    return Outcome.PASS if result.key == other.key else Outcome.FAIL
