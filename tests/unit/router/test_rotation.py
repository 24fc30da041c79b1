"""Rotation by configuration: check and second verifier change places, and every trace of an answer tells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from router.cache_key import cache_key
from router.domain import CheckResult, CheckSpec, VerificationSpec
from router.enums import Outcome
from router.rotation import RotatedVerifier, rotated
from router.settings import VerifySection
from router.verify.protocol import Task
from router.verify.second.sandboxed import second_of
from router.verify.spec import merge
from router.verify.worker import judge
from tests.support.builders import prompt
from tests.support.fakes import TextVerifier

CHECKS: list[dict[str, Any]] = [
    {"type": "regex", "pattern": "[a-z]+", "match": "full"},
    {"type": "exact", "reference": "abc"},
]
TYPES = ("regex",)


class RealVerifier(TextVerifier):
    """Judges as a worker does, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def verify(self, checks: Sequence[CheckSpec], text: str) -> tuple[CheckResult, ...]:
        self.asked += [check.type for check in checks]
        found = [judge(Task(check.type, dict(check.params)), text) for check in checks]
        return tuple(
            CheckResult(check.id, check.type, check.klass, each.outcome, each.score, 1.0, check.version)
            for check, each in zip(checks, found, strict=True)
        )


def spec() -> VerificationSpec:
    return merge({"checks": CHECKS}, None, {}, None, 3.0)


def digest(verification: VerificationSpec) -> bytes:
    return cache_key(tenant="t", policy="base", epoch=1, prompt=prompt(), verification=verification)[1]


async def test_the_second_verifier_decides_under_the_checks_name_and_a_version_of_its_own() -> None:
    inner = RealVerifier()
    turned = rotated(spec(), TYPES)
    results = await RotatedVerifier(inner, TYPES).verify(turned.checks, "Answer: abc")
    assert inner.asked == ["second:regex", "exact"]
    assert [(each.type, each.version, each.outcome) for each in results] == [
        ("regex", "second-1", Outcome.FAIL),
        ("exact", "1", Outcome.PASS),
    ]
    assert [check.version for check in turned.checks] == [result.version for result in results]


async def test_the_check_audits_what_the_second_verifier_accepted() -> None:
    inner = RealVerifier()
    auditors = [second for check in rotated(spec(), TYPES).checks if (second := second_of(check)) is not None]
    results = await RotatedVerifier(inner, TYPES).verify(auditors, "abc")
    assert inner.asked == ["regex", "second:exact"]
    assert [(each.type, each.version) for each in results] == [("second:regex", "first-1"), ("second:exact", "1")]


def test_a_rotation_is_another_cache_key_and_none_is_none() -> None:
    assert rotated(spec(), ()) == spec() and rotated(spec(), ("json_schema",)) == spec()
    assert digest(rotated(spec(), TYPES)) != digest(spec()) == digest(spec())


def test_only_checks_whose_second_verifier_is_as_good_can_rotate() -> None:
    with pytest.raises(ValidationError):
        VerifySection(rotate=("math",))  # type: ignore[arg-type]
    assert VerifySection(rotate=("regex", "json_schema")).rotate == ("regex", "json_schema")
