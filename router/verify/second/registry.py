"""The second verifiers as check types that no request can name: a worker runs them like any check."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from router.verify.check_type import PASSED, CheckType, Judgement, failed, undecided
from router.verify.checks.math import MathParams
from router.verify.pure import PURE_TYPES
from router.verify.second import constraints, plain
from router.verify.second.reading import Unreadable, stated

PREFIX = "second:"


def _math(params: MathParams, text: str) -> bool:
    from router.verify.second.math import same  # noqa: PLC0415  # mpmath belongs in the worker

    return same(params.reference, stated(text, number=True))


AUDITED: Mapping[str, Callable[[Any, str], bool]] = MappingProxyType(
    {
        "math": _math,
        "numeric": plain.numeric,
        "exact": plain.exact,
        "choice": plain.choice,
        "regex": plain.regex,
        "json_schema": plain.json_schema,
        "constraints": constraints.constraints,
    }
)


def _check(name: str, agrees: Callable[[Any, str], bool]) -> CheckType[Any]:
    """The second verifier of the check `name`: where it cannot judge, nothing is decided."""
    first = PURE_TYPES[name]

    def run(params: Any, text: str) -> Judgement:
        try:
            return PASSED if agrees(params, text) else failed("the second verifier does not accept the answer")
        except (Unreadable, ValueError, KeyError, TypeError, IndexError):
            return undecided("the second verifier cannot judge")

    return CheckType(f"{PREFIX}{name}", first.klass, "1", first.params, first.admit, run)


SECOND_TYPES: Mapping[str, CheckType[Any]] = MappingProxyType(
    {f"{PREFIX}{name}": _check(name, agrees) for name, agrees in AUDITED.items()}
)
