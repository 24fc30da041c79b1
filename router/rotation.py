"""Rotation of verifier versions by configuration: of the types that the operator names, the second verifier decides a
share of the requests, and there the check audits it.

A request has one version of each check: its draw hangs on the prompt alone, so that a repeated prompt meets the version
that its cached answer was verified by, and the samples of a group are never rewarded by two.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from hashlib import blake2b

from router.domain import CheckSpec, Prompt, VerificationSpec
from router.errors import ConfigError
from router.verify.measured import MeasuredRate
from router.verify.registry import CHECK_TYPES
from router.verify.second.registry import PREFIX
from router.verify.versions import SECONDS, other_version, second_judges

MAX_REFUSED = 0.05  # of the right answers, left without a verdict


def rotated(spec: VerificationSpec, shares: Mapping[str, float], prompt: Prompt) -> VerificationSpec:
    """`spec` with the versions that are to decide on this prompt; cache key, response and log carry them.

    A check with fields of which the second verifier can judge no answer stays with the check.
    """
    if not any(check.type in shares for check in spec.checks):
        return spec
    messages = json.dumps(prompt.messages, sort_keys=True, default=dict).encode()
    return replace(spec, checks=tuple(_version(check, shares.get(check.type, 0.0), messages) for check in spec.checks))


def check_rotation(shares: Mapping[str, float], rates: Mapping[str, MeasuredRate]) -> None:
    """Refuse to let a second verifier decide that is not as strict as its check, and no stricter, on the truth tables.

    Raises `ConfigError`.
    """
    for name in shares:
        kind = SECONDS.get(f"{PREFIX}{name}")
        if kind is None:
            known = ", ".join(sorted(each.removeprefix(PREFIX) for each in SECONDS))
            raise ConfigError(f"[verify] rotate: {name[:64]!r} has no second verifier; those that have one: {known}")
        rate = rates.get(name)
        measured = None if rate is None else rate.second
        now = CHECK_TYPES[name].version, kind.version
        if rate is None or measured is None or (rate.version, measured.version) != now:
            raise _refused(name, "was not measured as it is now: run thinktwice bench verifiers --record")
        if measured.looser:
            raise _refused(name, f"accepts {measured.looser} answers of the truth tables that the check refuses")
        if measured.disputed:
            raise _refused(name, f"refuses {measured.disputed} of {measured.right} right answers")
        if measured.undecided > MAX_REFUSED * measured.right:
            raise _refused(name, f"cannot judge {measured.undecided} of {measured.right} right answers")


def _refused(name: str, why: str) -> ConfigError:
    return ConfigError(f"[verify] rotate: the second verifier of {name} {why}; remove {name}")


def _version(check: CheckSpec, share: float, messages: bytes) -> CheckSpec:
    draw = int.from_bytes(blake2b(messages, person=check.type.encode()[:16], digest_size=8).digest()) / 2**64
    if draw >= share or not second_judges(check):
        return check
    return other_version(check) or check
