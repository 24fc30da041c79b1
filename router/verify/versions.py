"""Two verifiers of one type, told apart by the version: the check, or its second verifier (`second-N`)."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from router.domain import CheckSpec
from router.verify.registry import CHECK_TYPES
from router.verify.second.reading import Unreadable
from router.verify.second.registry import PREFIX, SECOND_TYPES
from router.verify.second.sandboxed import SECOND_SANDBOXED

_MARK = "second-"
SECONDS = {**SECOND_TYPES, **SECOND_SANDBOXED}


def runs(check: CheckSpec) -> str:
    """The name under which a worker or the sandbox knows the verifier of this version."""
    return f"{PREFIX}{check.type}" if check.version.startswith(_MARK) else check.type


def other_version(check: CheckSpec) -> CheckSpec | None:
    """The same check by its other verifier; None where there is none."""
    kind = SECONDS.get(f"{PREFIX}{check.type}")
    if kind is None:
        return None
    second = runs(check) != check.type
    return replace(check, version=CHECK_TYPES[check.type].version if second else f"{_MARK}{kind.version}")


def second_judges(check: CheckSpec) -> bool:
    """Whether there is a second verifier, and it can judge answers to a check with these fields at all."""
    kind = SECONDS.get(f"{PREFIX}{check.type}")
    if kind is None:
        return False
    try:
        kind.admit(msgspec.convert(check.params, kind.params))
    except Unreadable:
        return False
    return True
