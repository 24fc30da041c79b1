"""Rotation by configuration: which version decides hangs on the prompt, and every trace of an answer tells."""

from __future__ import annotations

import msgspec
import pytest
from pydantic import ValidationError

from gateway.bench.judging import Found
from gateway.bench.seconds import measured_seconds
from gateway.bench.truth import Fact, Part
from gateway.bootstrap.checks import check_settings
from router.cache_key import cache_key
from router.domain import CheckSpec, Prompt, VerificationSpec
from router.errors import ConfigError
from router.rotation import check_rotation, rotated
from router.settings import Settings, VerifySection
from router.verify.measured import MeasuredRate, MeasuredSecond, measured_rates
from router.verify.merge import merge
from router.verify.registry import CHECK_TYPES
from router.verify.second.registry import PREFIX, SECOND_TYPES
from router.verify.versions import SECONDS, other_version, runs
from tests.support.builders import prompt

REGEX = {"type": "regex", "pattern": "[a-z]+"}
SECOND = f"second-{SECOND_TYPES['second:regex'].version}"
RIGHT = MeasuredSecond(SECOND_TYPES["second:regex"].version, looser=0, right=100, disputed=0, undecided=5)
MEASURED = MeasuredRate(CHECK_TYPES["regex"].version, 100, 0, 100, 0, RIGHT)


def spec(*checks: dict[str, object]) -> VerificationSpec:
    return merge({"checks": list(checks or (REGEX,))}, None, {}, None, 3.0)


def asked(text: str) -> Prompt:
    return Prompt(({"role": "user", "content": text},), {}, prompt().sampling)


def versions(shares: dict[str, float], text: str, *checks: dict[str, object]) -> list[str]:
    return [check.version for check in rotated(spec(*checks), shares, asked(text)).checks]


def digest(verification: VerificationSpec) -> bytes:
    return cache_key(tenant="t", policy="base", epoch=1, prompt=prompt(), verification=verification)[1]


def test_a_share_of_the_prompts_is_decided_by_the_other_version_and_always_the_same() -> None:
    drawn = [versions({"regex": 0.3}, f"question {number}") for number in range(1000)]
    assert 240 < drawn.count([SECOND]) < 360 and drawn.count(["1"]) == 1000 - drawn.count([SECOND])
    assert drawn == [versions({"regex": 0.3}, f"question {number}") for number in range(1000)]
    assert versions({"regex": 1.0}, "any") == [SECOND] and versions({"regex": 0.0}, "any") == ["1"]


def test_types_are_drawn_apart_and_others_stay() -> None:
    exact = {"type": "exact", "reference": "a"}
    drawn = {tuple(versions({"regex": 0.5, "exact": 0.5}, str(number), REGEX, exact)) for number in range(100)}
    assert len(drawn) == 4
    assert versions({"regex": 1.0}, "any", REGEX, exact)[1] == CHECK_TYPES["exact"].version


@pytest.mark.parametrize(
    "check",
    [
        {"type": "regex", "pattern": "[[:alpha:]]+"},
        {"type": "regex", "pattern": "a{,2}"},
        {"type": "json_schema", "schema": {"type": "string", "format": "uri"}},
        {"type": "python_tests", "entry": "f", "code": "def test_all():\n    for i in range(3): assert f(i) == i"},
        {"type": "policy", "lists": ["words"]},
    ],
)
def test_what_the_second_verifier_cannot_judge_stays_with_the_check(check: dict[str, object]) -> None:
    assert rotated(spec(check), {str(check["type"]): 1.0}, asked("any")) == spec(check)


def test_a_version_is_another_cache_key_and_runs_another_verifier() -> None:
    turned = rotated(spec(), {"regex": 1.0}, asked("any"))
    assert digest(turned) != digest(spec()) == digest(rotated(spec(), {}, asked("any")))
    (check,) = turned.checks
    assert (check.type, runs(check)) == ("regex", f"{PREFIX}regex")


@pytest.mark.parametrize("name", sorted(SECONDS))
def test_each_version_audits_the_other(name: str) -> None:
    kind = CHECK_TYPES[name.removeprefix(PREFIX)]
    first = CheckSpec("c0", kind.name, kind.klass, kind.version, True, 1.0, 3.0, {})
    second = other_version(first)
    assert second is not None and second.version == f"second-{SECONDS[name].version}" and runs(second) == name
    assert other_version(second) == first


@pytest.mark.parametrize(
    ("shares", "why"),
    [
        ({"judge": 0.5}, "no second verifier; those that have one: choice, constraints"),
        ({"nonsense": 0.5}, "'nonsense' has no second verifier"),
        ({"exact": 0.5}, "was not measured as it is now"),
    ],
)
def test_what_cannot_rotate_is_refused_at_start(shares: dict[str, float], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        check_rotation(shares, {"regex": MEASURED})


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"looser": 1}, "accepts 1 answers of the truth tables that the check refuses; remove regex"),
        ({"disputed": 2}, "refuses 2 of 100 right answers"),
        ({"undecided": 6}, "cannot judge 6 of 100 right answers"),
        ({"version": "0"}, "was not measured as it is now"),
    ],
)
def test_versions_that_are_not_equally_strict_are_refused_with_the_reason(fields: dict[str, int], why: str) -> None:
    check_rotation({"regex": 0.5}, {"regex": MEASURED})
    unequal = msgspec.structs.replace(MEASURED, second=msgspec.structs.replace(RIGHT, **fields))
    with pytest.raises(ConfigError, match=why):
        check_rotation({"regex": 0.5}, {"regex": unequal})


def test_as_measured_most_can_rotate_and_some_are_refused() -> None:
    check_rotation(
        dict.fromkeys(
            ("choice", "constraints", "exact", "json_schema", "math", "numeric", "python_tests", "regex"), 0.5
        ),
        measured_rates(),
    )
    with pytest.raises(ConfigError, match="sql refuses 5 of 34 right answers"):
        check_rotation({"sql": 0.5}, measured_rates())


def test_a_gateway_does_not_start_with_what_cannot_rotate() -> None:
    with pytest.raises(ConfigError, match="remove sql"):
        check_settings(Settings.model_validate({"verify": {"rotate": {"sql": 0.5}}}))


@pytest.mark.parametrize("share", [-0.1, 1.1, "often", None])
def test_a_share_is_a_share(share: object) -> None:
    with pytest.raises(ValidationError):
        VerifySection(rotate={"regex": share})  # type: ignore[dict-item]


def test_what_is_recorded_counts_every_fact_that_the_second_verifier_read() -> None:
    (plain,), (posix,) = spec().checks, spec({"type": "regex", "pattern": "[[:alpha:]]"}).checks

    def found(check: CheckSpec, expect: str, outcome: str, second: str, table: str = "regex") -> Found:
        return Found(Fact(table, Part.REPORTED, check, "", expect, "own"), outcome, second)

    facts = [
        found(plain, "pass", "pass", "pass"),
        found(plain, "pass", "pass", "fail"),
        found(plain, "pass", "pass", "error"),
        found(posix, "pass", "pass", "error"),  # stays with the check
        found(plain, "fail", "fail", "pass"),
        found(plain, "fail", "error", "pass", "gaming"),
        found(plain, "refused", "fail", "fail"),
        found(plain, "pass", "timeout", "pass"),  # the check did not judge it
    ]
    assert measured_seconds(facts) == {
        "regex": MeasuredSecond(RIGHT.version, looser=2, right=3, disputed=1, undecided=1)
    }
