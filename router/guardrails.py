"""Guardrails: the operator's lists and classifier, over what goes to the model and over what comes back.

A list is applied where a `policy` check names it, and everywhere when it is `always`. Whatever keeps us from judging is
an error, never a pass: such a request is refused, such an answer withheld.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any

import msgspec

from router.domain import CheckResult, CheckSpec, VerificationSpec
from router.enums import Outcome
from router.errors import ConfigError, InvalidRequest, VerifierUnavailable
from router.ports import Classifier, Verifier
from router.settings import PolicyListSection
from router.verify.checks.policy import TYPE, PolicyList, compiled
from router.verify.limits import MAX_TEXT_CHARS
from router.verify.linear_regex import UnsupportedPattern

ALWAYS_ID = "policy"
VIOLATION = "content_policy_violation"
_PIECE_CHARS, _OVERLAP_CHARS = MAX_TEXT_CHARS, 1024  # longer inputs are read in pieces


@dataclass(frozen=True, slots=True)
class Guardrails:
    """The configured lists. `timeout_s` bounds the checks that are always applied."""

    lists: Mapping[str, PolicyListSection] = field(default_factory=dict)
    timeout_s: float = 3.0

    def check(self) -> None:
        """Raise `ConfigError` for a list that cannot be used."""
        for name, section in self.lists.items():
            if not (section.words or section.patterns or section.classifier):
                raise ConfigError(f"policy list {name}: give it words, patterns, or classifier = true")
            try:
                compiled(_contents(name, section))
            except UnsupportedPattern as error:
                raise ConfigError(f"policy list {name}: one of its entries {error}") from error

    def applied(self, spec: VerificationSpec) -> VerificationSpec:
        """`spec` with its policy checks split into those of the input (`screens`) and of the output (`checks`).

        The version of each comes of its lists' contents. Raises `InvalidRequest` for a list that is not configured.
        """
        policies = [check for check in spec.checks if check.type == TYPE.name]
        if not policies and not any(section.always for section in self.lists.values()):
            return spec
        always = [name for name, section in self.lists.items() if section.always]
        if always:
            if any(check.id == ALWAYS_ID for check in spec.checks):
                raise InvalidRequest(f"check id {ALWAYS_ID} is taken by the operator's policy", "verification.checks")
            policies.append(self._always(always))
        for check in policies:
            for name in check.params["lists"]:
                if name not in self.lists:
                    raise InvalidRequest(
                        f"the policy list {name[:64]!r} is not configured", "verification.checks", "unknown_list"
                    )
        others = tuple(check for check in spec.checks if check.type != TYPE.name)
        return replace(
            spec,
            checks=(*others, *self._of(policies, "output")),
            screens=self._of(policies, "input"),
        )

    def _always(self, names: list[str]) -> CheckSpec:
        return CheckSpec(ALWAYS_ID, TYPE.name, TYPE.klass, TYPE.version, True, 1.0, self.timeout_s, {"lists": names})

    def _of(self, policies: Sequence[CheckSpec], side: str) -> tuple[CheckSpec, ...]:
        """The checks with those of their lists that apply to `side`, each versioned; none without lists."""
        found = []
        for check in policies:
            names = [name for name in check.params["lists"] if self.lists[name].applies_to in (side, "both")]
            if names:
                found.append(replace(check, params={"lists": names}, version=self._version(names)))
        return tuple(found)

    def _version(self, names: Sequence[str]) -> str:
        contents = [self.lists[name].model_dump() for name in sorted(names)]
        return f"{TYPE.version}-{blake2b(msgspec.json.encode(contents), digest_size=6).hexdigest()}"


class PolicyVerifier:
    """A verifier that gives `policy` checks their lists' contents and asks the classifier (`router.ports.Verifier`)."""

    def __init__(
        self, inner: Verifier, lists: Mapping[str, PolicyListSection], classifier: Classifier | None = None
    ) -> None:
        self._inner, self._lists, self._classifier = inner, lists, classifier

    async def verify(self, checks: Sequence[CheckSpec], text: str) -> tuple[CheckResult, ...]:
        """As the verifier behind it; a policy check passes only where lists and classifier both do."""
        if not any(check.type == TYPE.name for check in checks):
            return await self._inner.verify(checks, text)
        results = await self._inner.verify([self._filled(check) for check in checks], text)
        return tuple(
            [
                await self._classified(result, text) if self._classifies(check) else result
                for check, result in zip(checks, results, strict=True)
            ]
        )

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

    def _classifies(self, check: CheckSpec) -> bool:
        return check.type == TYPE.name and any(self._lists[name].classifier for name in check.params["lists"])

    def _filled(self, check: CheckSpec) -> CheckSpec:
        if check.type != TYPE.name:
            return check
        contents = [msgspec.to_builtins(_contents(name, self._lists[name])) for name in check.params["lists"]]
        return replace(check, params={**check.params, "contents": contents})

    async def _classified(self, result: CheckResult, text: str) -> CheckResult:
        if result.outcome is not Outcome.PASS or not text.strip():
            return result
        outcome = Outcome.ERROR if self._classifier is None else await self._classifier.judge(text)
        if outcome is Outcome.PASS:
            return result
        detail = "the classifier objects" if outcome is Outcome.FAIL else "the classifier does not say"
        return replace(result, outcome=outcome, score=0.0 if outcome is Outcome.FAIL else None, detail=detail)


async def screen(verifier: Verifier, screens: Sequence[CheckSpec], asked: object) -> None:
    """Judge what is asked of the model, any JSON value, before it is.

    Raises `InvalidRequest` (`content_policy_violation`) when a list or the classifier objects, `VerifierUnavailable`
    when one of them could not be asked.
    """
    for piece in _pieces("\n".join(_strings(asked))):
        for result in await verifier.verify(screens, piece):
            if result.outcome is Outcome.FAIL:
                raise InvalidRequest(f"the request breaks the content policy: {result.detail}", "messages", VIOLATION)
            if result.outcome is not Outcome.PASS:
                raise VerifierUnavailable("the content policy of this request cannot be checked now")


def _contents(name: str, section: PolicyListSection) -> PolicyList:
    return PolicyList(name, section.words, section.patterns)


def _strings(value: Any) -> Iterator[str]:
    """Every string of a JSON value, keys included; images and sounds, which are long and no text, are not."""
    if isinstance(value, str):
        if not value.startswith("data:"):
            yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield key
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)


def _pieces(text: str) -> list[str]:
    step = _PIECE_CHARS - _OVERLAP_CHARS
    return [text[at : at + _PIECE_CHARS] for at in range(0, max(len(text) - _OVERLAP_CHARS, 1), step)]
