"""Admission, bounds and verdicts; what a list sees of a text is in `tests/golden/verifiers/policy.jsonl`."""

import pytest

from router.enums import CheckClass, Outcome
from router.errors import InvalidRequest
from router.verify.checks.policy import TYPE, PolicyList, PolicyParams, admit, compiled, run
from router.verify.linear_regex import UnsupportedPattern
from router.verify.spec import parse_checks

WORDS = PolicyList("w", words=("Project Falcon",))


def outcome(text: str, policy_list: PolicyList = WORDS) -> Outcome:
    return run(PolicyParams([policy_list.name], (policy_list,)), text).outcome


def test_a_verdict_names_the_list_and_quotes_nothing() -> None:
    found = run(PolicyParams(["w"], (WORDS,)), "about Project Falcon")
    assert (found.outcome, found.score, found.detail) == (Outcome.FAIL, 0.0, "the list w matches")
    assert run(PolicyParams(["w"], (WORDS,)), "about falcons").score is None


def test_a_list_that_is_not_known_is_an_error() -> None:
    assert run(PolicyParams(["w", "other"], (WORDS,)), "fine").outcome is Outcome.ERROR
    assert run(PolicyParams(["w"]), "fine").outcome is Outcome.ERROR


@pytest.mark.timeout(30)
def test_many_words_are_read_in_linear_time() -> None:
    many = PolicyList("many", words=tuple(f"forbidden{i}" for i in range(2000)))
    assert outcome("a" * 200_000, many) is Outcome.PASS
    assert outcome("a " * 100_000 + "forbidden1999", many) is Outcome.FAIL


@pytest.mark.parametrize("bad", [PolicyList("b", words=("",)), PolicyList("b", patterns=("(?=x)",))])
def test_entries_that_cannot_be_read(bad: PolicyList) -> None:
    with pytest.raises(UnsupportedPattern):
        compiled(bad)


def test_admission() -> None:
    [check] = parse_checks([{"type": "policy", "lists": ["w"]}], where="checks", default_timeout_s=3)
    assert (check.klass, check.required, check.params) == (CheckClass.VETO, True, {"lists": ["w"]})
    for raw in ({"lists": []}, {"lists": ["w"], "contents": [{"name": "w"}]}, {"lists": ["w"], "required": False}, {}):
        with pytest.raises(InvalidRequest):
            parse_checks([{"type": "policy", **raw}], where="checks", default_timeout_s=3)
    with pytest.raises(InvalidRequest):
        admit(PolicyParams([f"list{i}" for i in range(17)]))
    assert TYPE.klass is CheckClass.VETO
