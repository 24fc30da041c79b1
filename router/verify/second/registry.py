"""The second verifiers as check types that no request can name: a worker runs them like any check."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from router.verify.check_type import PASSED, CheckType, Judgement, failed, undecided
from router.verify.checks.math import MathParams
from router.verify.pure import PURE_TYPES
from router.verify.second import constraints, pattern, plain, schema
from router.verify.second.number import final, read
from router.verify.second.reading import Unreadable, marked

PREFIX = "second:"


def _math(params: MathParams, text: str) -> bool:
    from router.verify.second.math import same, same_number  # noqa: PLC0415  # mpmath belongs in the worker

    found = marked(text)
    return same_number(read(params.reference), final(text)) if found is None else same(params.reference, found.content)


AUDITED: Mapping[str, Callable[[Any, str], bool]] = MappingProxyType(
    {
        "math": _math,
        "numeric": plain.numeric,
        "exact": plain.exact,
        "choice": plain.choice,
        "regex": plain.regex,
        "json_schema": schema.valid,
        "constraints": constraints.constraints,
    }
)


_ADMISSIONS: Mapping[str, Callable[[Any], object]] = MappingProxyType(
    {
        "numeric": lambda params: read(str(params.reference)),
        "regex": lambda params: pattern.admit(params.pattern),
        "json_schema": schema.admit,
    }
)


def _check(name: str, agrees: Callable[[Any, str], bool]) -> CheckType[Any]:
    """The second verifier of the check `name`: where it cannot judge, nothing is decided.

    Its admission raises `Unreadable` for fields of which it can judge no answer.
    """
    first = PURE_TYPES[name]

    def run(params: Any, text: str) -> Judgement:
        try:
            return PASSED if agrees(params, text) else failed("the second verifier does not accept the answer")
        except (Unreadable, ValueError, KeyError, TypeError, IndexError):
            return undecided("the second verifier cannot judge")

    def admit(params: Any) -> None:
        _ADMISSIONS.get(name, first.admit)(params)

    return CheckType(f"{PREFIX}{name}", first.klass, "4", first.params, admit, run)


SECOND_TYPES: Mapping[str, CheckType[Any]] = MappingProxyType(
    {f"{PREFIX}{name}": _check(name, agrees) for name, agrees in AUDITED.items()}
)
