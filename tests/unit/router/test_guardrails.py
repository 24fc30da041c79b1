"""Which lists apply where, what version they carry, and that nothing passes unread."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from router.domain import CheckResult, CheckSpec, VerificationSpec
from router.enums import CheckClass, Outcome
from router.errors import ConfigError, InvalidRequest, VerifierUnavailable
from router.guardrails import ALWAYS_ID, Guardrails, PolicyVerifier, screen
from router.settings import PolicyListSection
from router.verify.checks.policy import TYPE
from router.verify.limits import MAX_TEXT_CHARS
from router.verify.protocol import Task
from router.verify.worker import judge

LISTS = {
    "in": PolicyListSection(words=("asked",), applies_to="input"),
    "out": PolicyListSection(words=("answered",), applies_to="output"),
    "both": PolicyListSection(words=("secret",)),
    "class": PolicyListSection(classifier=True),
}
NUMERIC = CheckSpec("c0", "numeric", CheckClass.DECISIVE, "1", True, 1.0, 3.0, {"reference": 4})


def policy(*lists: str, id: str = "p0") -> CheckSpec:
    return CheckSpec(id, TYPE.name, TYPE.klass, TYPE.version, True, 1.0, 3.0, {"lists": list(lists)})


@dataclass
class Here:
    """A verifier that runs checks in this process; `broken` gives that outcome instead."""

    broken: Outcome | None = None
    texts: list[str] = field(default_factory=list)

    async def verify(self, checks: Sequence[CheckSpec], text: str) -> tuple[CheckResult, ...]:
        self.texts.append(text)
        return tuple(self._one(check, text) for check in checks)

    def _one(self, check: CheckSpec, text: str) -> CheckResult:
        found = judge(Task(check.type, dict(check.params)), text)
        outcome = self.broken or found.outcome
        return CheckResult(check.id, check.type, check.klass, outcome, found.score, 1.0, check.version, found.detail)

    def available(self, checks: Sequence[CheckSpec]) -> bool:
        return True

    @property
    def down(self) -> tuple[str, ...]:
        return ()

    def idle(self) -> bool:
        return True


@dataclass
class Says:
    outcome: Outcome
    asked: int = 0

    async def judge(self, text: str) -> Outcome:
        self.asked += 1
        return self.outcome


def test_lists_go_to_their_side() -> None:
    spec = Guardrails(LISTS).applied(VerificationSpec(checks=(NUMERIC, policy("in", "out", "both"))))
    assert [(check.id, dict(check.params)) for check in spec.checks] == [
        ("c0", {"reference": 4}),
        ("p0", {"lists": ["out", "both"]}),
    ]
    assert [dict(check.params) for check in spec.screens] == [{"lists": ["in", "both"]}]
    only_input = Guardrails(LISTS).applied(VerificationSpec(checks=(policy("in"),)))
    assert only_input.checks == () and not only_input.has_veto


def test_without_a_policy_nothing_changes() -> None:
    spec = VerificationSpec(checks=(NUMERIC,))
    assert Guardrails(LISTS).applied(spec) is spec and Guardrails().applied(spec) is spec


def test_a_list_that_is_always_applied() -> None:
    always = {"base": PolicyListSection(words=("never",), always=True), **LISTS}
    spec = Guardrails(always).applied(VerificationSpec(checks=(policy("both"),)))
    assert [check.id for check in spec.checks] == ["p0", ALWAYS_ID] == [check.id for check in spec.screens]
    assert all(check.required and check.klass is CheckClass.VETO for check in spec.checks)


def test_a_client_cannot_take_the_operators_id() -> None:
    always = {"base": PolicyListSection(words=("never",), always=True)}
    with pytest.raises(InvalidRequest, match="policy"):
        Guardrails(always).applied(VerificationSpec(checks=(policy("base", id=ALWAYS_ID),)))


def test_an_unknown_list() -> None:
    with pytest.raises(InvalidRequest, match="nope") as caught:
        Guardrails(LISTS).applied(VerificationSpec(checks=(policy("nope"),)))
    assert caught.value.code == "unknown_list"


def test_the_version_is_that_of_the_contents() -> None:
    def version(**changes: object) -> str:
        lists = {**LISTS, "both": LISTS["both"].model_copy(update=changes)}
        return Guardrails(lists).applied(VerificationSpec(checks=(policy("both"),))).checks[0].version

    assert version() == version() and version().startswith("1-")
    assert len({version(), version(words=("other",)), version(patterns=("x",)), version(classifier=True)}) == 4


@pytest.mark.parametrize(
    "section",
    [
        PolicyListSection(),
        PolicyListSection(words=(" ",)),
        PolicyListSection(words=("\u200b",)),
        PolicyListSection(patterns=(r"(a)\1",)),
    ],
)
def test_lists_that_cannot_be_used(section: PolicyListSection) -> None:
    with pytest.raises(ConfigError, match="policy list bad"):
        Guardrails({"bad": section}).check()
    Guardrails(LISTS).check()


async def test_the_worker_is_given_the_contents() -> None:
    verifier = PolicyVerifier(Here(), LISTS)
    [passed] = await verifier.verify([policy("out")], "a word")
    [failed] = await verifier.verify([policy("out")], "Answered.")
    assert (passed.outcome, failed.outcome) == (Outcome.PASS, Outcome.FAIL)
    [alone] = await Here().verify([policy("out")], "a word")
    assert alone.outcome is Outcome.ERROR  # nobody gave it the contents


@pytest.mark.parametrize("said", list(Outcome))
async def test_only_a_pass_of_the_classifier_passes(said: Outcome) -> None:
    classifier = Says(said)
    verifier = PolicyVerifier(Here(), LISTS, classifier)
    numeric, asked, plain = await verifier.verify([NUMERIC, policy("class"), policy("both", id="p1")], r"\boxed{4}")
    assert asked.outcome is said and classifier.asked == 1
    assert (numeric.outcome, plain.outcome) == (Outcome.PASS, Outcome.PASS)
    assert asked.score == (0.0 if said is Outcome.FAIL else None)


async def test_without_a_classifier_its_list_is_an_error() -> None:
    [asked] = await PolicyVerifier(Here(), LISTS).verify([policy("class")], "text")
    assert asked.outcome is Outcome.ERROR


ASKED = [
    "tell me a secret",
    [{"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "text", "text": "SECRET"}]}],
    [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": '{"a": "\\u0073ecret"}'}}]}],
    {"tools": [{"function": {"name": "f", "description": "the secret"}}]},
    "x " * MAX_TEXT_CHARS + "secret",
    " " * (MAX_TEXT_CHARS - 3) + "secret" + " x" * MAX_TEXT_CHARS,
]


@pytest.mark.parametrize("asked", ASKED, ids=range(len(ASKED)))
async def test_every_text_that_is_asked_is_read(asked: object) -> None:
    here = Here()
    with pytest.raises(InvalidRequest) as caught:
        await screen(PolicyVerifier(here, LISTS), [policy("both")], asked)
    assert caught.value.code == "content_policy_violation" and "secret" not in str(caught.value)
    assert all(len(text) <= MAX_TEXT_CHARS for text in here.texts)


@pytest.mark.parametrize("broken", [Outcome.ERROR, Outcome.TIMEOUT, Outcome.SKIPPED])
async def test_what_cannot_be_judged_is_not_let_through(broken: Outcome) -> None:
    await screen(PolicyVerifier(Here(), LISTS), [policy("both")], "harmless")
    with pytest.raises(VerifierUnavailable):
        await screen(PolicyVerifier(Here(broken), LISTS), [policy("both")], "harmless")
