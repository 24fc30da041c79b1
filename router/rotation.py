"""Rotation: of the types that the operator names, the check and its second verifier change places.

The second verifier decides and earns, the check audits it: there is always an independent one to notice. It is one or
the other for a whole gateway, never by lot, so that a group is rewarded by one version alone.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from router.domain import CheckResult, CheckSpec, VerificationSpec
from router.ports import Verifier
from router.verify.pure import PURE_TYPES
from router.verify.second.registry import PREFIX, SECOND_TYPES


def rotated(spec: VerificationSpec, types: Collection[str]) -> VerificationSpec:
    """`spec` with the version of the verifier that will judge: cache key, response and log tell them apart."""
    if not any(check.type in types for check in spec.checks):
        return spec
    checks = tuple(replace(each, version=_second(each).version) if each.type in types else each for each in spec.checks)
    return replace(spec, checks=checks)


class RotatedVerifier:
    """A verifier that asks the second verifier where the check is asked, and the other way round (`Verifier`)."""

    def __init__(self, inner: Verifier, types: Collection[str]) -> None:
        self._inner, self._types = inner, types

    async def verify(self, checks: Sequence[CheckSpec], text: str) -> tuple[CheckResult, ...]:
        """As the verifier behind it, each result under the type that was asked and the version that judged."""
        results = await self._inner.verify([self._turned(check) for check in checks], text)
        return tuple(replace(result, type=check.type) for result, check in zip(results, checks, strict=True))

    def available(self, checks: Sequence[CheckSpec]) -> bool:
        """Whether these checks would run now."""
        return self._inner.available(checks)

    def idle(self) -> bool:
        """Whether checks handed in now would start at once."""
        return self._inner.idle()

    @property
    def down(self) -> tuple[str, ...]:
        """The parts of it that do not work while the rest does."""
        return self._inner.down

    def _turned(self, check: CheckSpec) -> CheckSpec:
        if check.type in self._types:
            return _second(check)
        name = check.type.removeprefix(PREFIX)
        if name != check.type and name in self._types:
            return replace(check, type=name, version=f"first-{PURE_TYPES[name].version}")
        return check


def _second(check: CheckSpec) -> CheckSpec:
    kind = SECOND_TYPES[f"{PREFIX}{check.type}"]
    return replace(check, type=kind.name, version=f"second-{kind.version}")
